"""Whose a token is: verified once, and remembered for a moment."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Self

import structlog

from gateway.tokens.jwks import Fetch, RemoteKeys
from schemas.access import jwt
from schemas.access.credentials import Credentials, KeyRefused, Principal, Right
from schemas.access.issuers import Issuer
from schemas.access.jwt import Identity, Keys, KeysInvalid, TokenRefused, UnknownKey

REMEMBERED_MAX = 10_000
REMEMBERED_S = 60.0

_RIGHTS = {"events:write": Right.INGEST, "events:read": Right.READ, "events:admin": Right.ADMIN}
_WITHOUT_SCOPES = frozenset({Right.INGEST, Right.READ})

log = structlog.get_logger()


class TokenVerifier:
    """Verifies tokens by the issuers of the credentials; an async context manager."""

    def __init__(self, fetch: Fetch) -> None:
        """Read keys that are at an address by *fetch*."""
        self._fetch = fetch
        self._issuers: Mapping[str, Issuer] = {}
        self._keys: dict[str, Keys | RemoteKeys] = {}
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
                self._closing.append(gone)
        for name, issuer in self._issuers.items():
            if name not in self._keys and (keys := self._keys_of(name, issuer)) is not None:
                self._keys[name] = keys

    def authenticate(self, token: str, credentials: Credentials, *, now: datetime) -> Principal:
        """
        Return whose *token* is.

        Raises:
            KeyRefused: it is not valid; the answer does not say why.
            KeysUnavailable: its issuer's keys were never read.
        """
        self.use(credentials)
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        known = self._remembered.get(digest)
        if known is not None and now.timestamp() < known[1]:
            return known[0]
        try:
            identity = self._identity(token, credentials, now)
        except TokenRefused as error:
            log.info("token refused", error=str(error))
            raise KeyRefused("no valid token was presented") from None
        if identity.tenant not in credentials.tenants:
            raise KeyRefused("no valid token was presented")
        principal = _principal(identity, credentials)
        until_s = min(identity.expires_at_s + jwt.LEEWAY_S, now.timestamp() + REMEMBERED_S)
        self._remember(digest, principal, until_s)
        return principal

    def _identity(self, token: str, credentials: Credentials, now: datetime) -> Identity:
        name, issuer = jwt.issuer_of(token, self._issuers)
        source = self._keys.get(name)
        if source is None:
            raise TokenRefused(f"the keys of issuer {name} cannot be used")
        keys = source.keys if isinstance(source, RemoteKeys) else source
        try:
            return jwt.verify(token, name, issuer, keys, now=now, denials=credentials.denied)
        except UnknownKey:
            if isinstance(source, RemoteKeys):
                source.ask()
            raise

    def _keys_of(self, name: str, issuer: Issuer) -> Keys | RemoteKeys | None:
        if issuer.secret is not None:
            return jwt.keys_of_secret(issuer)
        if issuer.jwks_url is not None:
            return RemoteKeys(name, issuer, self._fetch, changed=self._remembered.clear)
        try:
            return jwt.keys_in(Path(issuer.jwks_file or "").read_text(), issuer)
        except (KeysInvalid, OSError, UnicodeDecodeError) as error:
            log.warning("keys of issuer not read", issuer=name, error=str(error))
            return None

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
