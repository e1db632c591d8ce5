"""Signatures of events (agent's secret) and of records (gateway's own key): HMAC-SHA256, compared in constant time."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from functools import lru_cache

from schemas.canonical import signed_form

_BLOCK_BYTES = 64  # of SHA-256
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def sign_event(event: Mapping[str, object], secret: str) -> str:
    """Lower-case hex HMAC-SHA256 of the event's canonical form without `meta.signature`."""
    return hmac.digest(secret.encode(), signed_form(event), "sha256").hex()


def event_signature_holds(event: Mapping[str, object], signature: str, secrets: Sequence[str]) -> bool:
    """Say whether *signature* was made with one of *secrets*; several are valid while an agent rotates."""
    form = signed_form(event)
    given = signature.encode("utf-8", "replace")
    # No early exit: how long it takes does not tell which secret matched.
    matches = [
        hmac.compare_digest(hmac.digest(secret.encode(), form, "sha256").hex().encode(), given) for secret in secrets
    ]
    return any(matches)


def record_mac(secret: str, *, topic: str, key: bytes, tenant: bytes, value: bytes) -> bytes:
    """
    The `gateway-mac` header, as hex: proof that a gateway of ours checked this record.

    Each part is framed by its length, so that no two different records share one message.
    """
    name = topic.encode()
    inner, outer = _keyed(secret)
    message, mac = inner.copy(), outer.copy()
    message.update(b"%d/%d/%d/%b%b%b%b" % (len(name), len(key), len(tenant), name, key, tenant, value))
    mac.update(message.digest())
    return mac.hexdigest().encode()


def record_mac_holds(
    mac: bytes, secrets: Sequence[str], *, topic: str, key: bytes, tenant: bytes, value: bytes
) -> bool:
    """Say whether *mac* was made with one of the gateway's *secrets*."""
    for secret in secrets:
        if hmac.compare_digest(record_mac(secret, topic=topic, key=key, tenant=tenant, value=value), mac):
            return True
    return False


@lru_cache(maxsize=64)  # more than a file's secrets and those that were removed from it a moment ago
def _keyed(secret: str) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """
    HMAC's two hashes (RFC 2104), each with its half of the key absorbed.

    One MAC is made for every record of the log: with copies of these it costs half of `hmac.digest`, and two thirds of
    a copied `hmac.HMAC`, which is a Python object around another.
    """
    key = secret.encode()
    if len(key) > _BLOCK_BYTES:
        key = hashlib.sha256(key).digest()
    key = key.ljust(_BLOCK_BYTES, b"\0")
    return hashlib.sha256(key.translate(_INNER)), hashlib.sha256(key.translate(_OUTER))
