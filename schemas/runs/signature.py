"""Signatures of events, made with an agent's secret: HMAC-SHA256, compared in constant time."""

import hmac
from collections.abc import Mapping, Sequence

from schemas.canonical import signed_form


def sign_event(event: Mapping[str, object], secret: str) -> str:
    """Return the lower-case hex HMAC-SHA256 of the event's canonical form without `meta.signature`."""
    return hmac.digest(secret.encode(), signed_form(event), "sha256").hex()


def event_signature_holds(event: Mapping[str, object], signature: str, secrets: Sequence[str]) -> bool:
    """Return True if *signature* was made with one of *secrets*; several are valid while an agent rotates."""
    form = signed_form(event)
    given = signature.encode("utf-8", "replace")
    # No early exit: how long it takes does not tell which secret matched.
    matches = [
        hmac.compare_digest(hmac.digest(secret.encode(), form, "sha256").hex().encode(), given) for secret in secrets
    ]
    return any(matches)
