"""Verification of tokens; the result is cached for a short time."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from typing import Self

import structlog

from gateway.tokens.jwks import Fetch, RemoteKeys
from gateway.tokens.key_files import FileKeys
from schemas.access import jwt
from schemas.access.credentials import Credentials, KeyRefused, Principal, Right
from schemas.access.issuers import Issuer
from schemas.access.jwt import Identity, Keys, TokenRefused, UnknownKey
from schemas.process.telemetry import TOKENS_REFUSED, Telemetry

REMEMBERED_MAX = 10_000
REMEMBERED_S = 60.0
LOGGED_EVERY_S = 10.0  # anyone may send bad tokens, as many as they like

_RIGHTS = {"events:write": Right.INGEST, "events:read": Right.READ, "events:admin": Right.ADMIN}
_WITHOUT_SCOPES = frozenset({Right.INGEST, Right.READ})

log = structlog.get_logger()


class TokenVerifier:
    """A verifier of tokens by the issuers in the credentials; an async context manager."""

    def __init__(self, fetch: Fetch, telemetry: Telemetry) -> None:
        """Read keys that are at an address by *fetch*."""
        self._fetch = fetch
        self._telemetry = telemetry
        self._refused = telemetry[TOKENS_REFUSED]
        self._logged_at_s = float("-inf")
        self._issuers: Mapping[str, Issuer] = {}
        self._keys: dict[str, Keys | FileKeys | RemoteKeys] = {}
        self._credentials: Credentials | None = None
        self._closing: list[RemoteKeys] = []
        self._remembered: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()  # until when, since the epoch

    async def __aenter__(self) -> Self:
        """Return at once: keys are read once their issuers are known."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Read no more keys."""
        for each in (*self._keys.values(), *self._closing):
            if isinstance(each, RemoteKeys):
                await each.close()

    def use(self, credentials: Credentials) -> None:
        """Verify by *credentials* from now on; keys of issuers that stay as they are stay as well."""
        if credentials is self._credentials:
            return
        self._credentials = credentials
        self._remembered.clear()
        before, self._issuers = self._issuers, credentials.issuers
        for name in [name for name in self._keys if before.get(name) != self._issuers.get(name)]:
            gone = self._keys.pop(name)
            if isinstance(gone, RemoteKeys):
                gone.stop()
                self._closing.append(gone)
        for name, issuer in self._issuers.items():
            if name not in self._keys:
                self._keys[name] = self._keys_of(name, issuer)

    def authenticate(self, token: str, credentials: Credentials, *, now: datetime) -> Principal:
        """
        Return the principal of *token*.

        Raises:
            KeyRefused: it is not valid; the answer does not say why.
            KeysUnavailable: its issuer's keys were never read.
        """
        self.use(credentials)
        for source in self._keys.values():
            if isinstance(source, FileKeys):
                source.refresh()
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        known = self._remembered.get(digest)
        if known is not None and now.timestamp() < known[1]:
            return known[0]
        name = ""
        try:
            name, issuer = jwt.issuer_of(token, self._issuers)
            identity = self._verify(token, name, issuer, credentials, now)
        except TokenRefused as error:
            self._note_refusal(name, error, now.timestamp())
            raise KeyRefused("no valid token was presented") from None
        if identity.tenant not in credentials.tenants:
            raise KeyRefused("no valid token was presented")
        principal = _principal(identity, credentials)
        until_s = min(identity.expires_at_s + jwt.LEEWAY_S, now.timestamp() + REMEMBERED_S)
        self._remember(digest, principal, until_s)
        return principal

    def _verify(self, token: str, name: str, issuer: Issuer, credentials: Credentials, now: datetime) -> Identity:
        source = self._keys[name]
        keys = source.keys if isinstance(source, FileKeys | RemoteKeys) else source
        try:
            return jwt.verify(token, name, issuer, keys, now=now, denials=credentials.denied)
        except UnknownKey:
            if isinstance(source, RemoteKeys):
                source.ask()
            raise

    def _note_refusal(self, issuer: str, refusal: TokenRefused, now_s: float) -> None:
        reason = "unknown_key" if isinstance(refusal, UnknownKey) else "invalid"
        self._refused.labels(issuer, reason).inc()
        if abs(now_s - self._logged_at_s) >= LOGGED_EVERY_S:
            self._logged_at_s = now_s
            log.info("token refused", issuer=issuer, error=str(refusal))

    def _keys_of(self, name: str, issuer: Issuer) -> Keys | FileKeys | RemoteKeys:
        changed = self._remembered.clear
        if issuer.secret is not None:
            return jwt.keys_of_secret(issuer)
        if issuer.jwks_url is not None:
            return RemoteKeys(name, issuer, self._fetch, changed=changed, telemetry=self._telemetry)
        return FileKeys(name, issuer, changed=changed)

    def _remember(self, digest: bytes, principal: Principal, until_s: float) -> None:
        self._remembered[digest] = principal, until_s
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)


def _principal(identity: Identity, credentials: Credentials) -> Principal:
    """Return the principal of *identity*; where a tenant has several issuers, a user is one of its issuer alone."""
    issuers = [issuer for issuer in credentials.issuers.values() if identity.tenant in (issuer.tenant, *issuer.tenants)]
    rights = _WITHOUT_SCOPES if identity.scopes is None else frozenset(_RIGHTS[scope] for scope in identity.scopes)
    return Principal(
        key_id=identity.issuer,
        tenant=identity.tenant,
        rights=rights,
        agents=frozenset(),
        user_id=identity.subject if len(issuers) == 1 else f"{identity.issuer}|{identity.subject}",
    )
