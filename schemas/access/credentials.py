"""
The credentials file: tenants, their agents' signing secrets, API keys (hashed), issuers of tokens, and the gateways'
own keys.

TOML, mode 0600. Processes re-read it when it changes, and again before they refuse something for lack of an entry; a
file that cannot be used leaves the last good one in force. `schemas.access.rotation` says how the gateways' own
secrets change.

An API key is `tg_<id>_<secret>`: looked up by its id, compared by the SHA-256 of its secret in constant
time. The secrets are random, so a slow password hash would add nothing.
"""

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Protocol, TypeVar

import msgspec

from schemas.access.issuers import Denial, Issuer, denial_fault, issuer_fault
from schemas.access.placeholders import secret_fault
from schemas.access.rotation import MacSecrets
from schemas.process import toml_text
from schemas.process.file_writing import read_failure, replace_text
from schemas.process.secret_files import SecretFileExposed
from schemas.process.watched import RETRY_DELAY_S, WatchedFile

Verdict = TypeVar("Verdict")
NAME_PATTERN = r"^[A-Za-z0-9._:-]{1,128}$"
Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]

KEY_SECRET_BYTES = 24  # 192 random bits
KEY_ID_BYTES = 6
# What an unknown id is compared with, so that it takes the same time as a wrong secret.
_NO_KEY_SHA256 = "0" * 64


class CredentialsInvalid(ValueError):
    """The credentials file cannot be used. Keep the last good one and tell a person."""


class NotEditable(ValueError):
    """The credentials file cannot be changed by a program without losing comments. Change it by hand."""


class KeyRefused(ValueError):
    """No valid key was presented. Answer 401; the text may be shown."""


Moment = Annotated[datetime, msgspec.Meta(tz=True)]  # one without an offset can be compared with none


class Right(StrEnum):
    """A right of a key."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"
    USERS = "users"  # speak for users: what it sends in their names is shown to them
    DOCUMENTS_WRITE = "documents:write"
    DOCUMENTS_READ = "documents:read"
    SEARCH = "search"


class Agent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One agent of a tenant. With secrets it must sign its events, without it must not."""

    secrets: list[str] = []


class Tenant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One tenant: its agents by id, and whether it takes unsigned records from direct producers."""

    agents: dict[Name, Agent] = {}
    allow_unsigned_direct: bool = False
    events_per_min: Annotated[int, msgspec.Meta(ge=1)] | None = None  # at each gateway; None: no limit


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One API key; `sha256` is the hex digest of its secret part, `agents` (if any) the only ones it speaks for."""

    tenant: Name
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    rights: list[Right]
    agents: list[Name] | None = None
    created_at: Moment
    expires_at: Moment | None = None
    revoked_at: Moment | None = None


class Gateway(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gateways' own keys for the `gateway-mac` header: the first signs, all verify."""

    mac_secrets: Annotated[list[str], msgspec.Meta(min_length=1)]


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The sender of a request, and its rights."""

    key_id: str
    tenant: str
    rights: frozenset[Right]
    agents: frozenset[str] | None  # None: every agent of the tenant
    user_id: str | None = None  # the subject of a token, whose issuer `key_id` names; None: an API key

    @property
    def name(self) -> str:
        """Return a name that is unique among keys and users."""
        return self.key_id if self.user_id is None else f"{self.key_id}/{self.tenant}/{self.user_id}"


class Credentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The whole file."""

    gateway: Gateway
    tenants: dict[Name, Tenant] = {}
    keys: dict[str, ApiKey] = {}
    issuers: dict[Name, Issuer] = {}
    denied: list[Denial] = []

    def authenticate(self, presented: str, *, now: datetime) -> Principal:
        """
        Return the principal of the key *presented*.

        Raises:
            KeyRefused: malformed, unknown, wrong, expired or revoked; the answer does not say which.
        """
        scheme, _, rest = presented.partition("_")
        key_id, _, secret = rest.partition("_")
        key = self.keys.get(key_id)
        digest = hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
        matches = hmac.compare_digest(digest, key.sha256 if key else _NO_KEY_SHA256)
        if scheme != "tg" or key is None or not matches or not _in_force(key, now) or key.tenant not in self.tenants:
            raise KeyRefused("no valid API key was presented")
        return _principal(key_id, key)

    def standing(self, key_id: str, *, now: datetime) -> Principal | None:
        """Return the principal of a key that was presented before, by its id; None if it is no longer in force."""
        key = self.keys.get(key_id)
        if key is None or not _in_force(key, now) or key.tenant not in self.tenants:
            return None
        return _principal(key_id, key)


def is_name(text: str) -> bool:
    """Return True if *text* may name a tenant."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def _principal(key_id: str, key: ApiKey) -> Principal:
    return Principal(
        key_id=key_id,
        tenant=key.tenant,
        rights=frozenset(key.rights),
        agents=None if key.agents is None else frozenset(key.agents),
    )


def _in_force(key: ApiKey, now: datetime) -> bool:
    return key.revoked_at is None and (key.expires_at is None or now < key.expires_at)


def parse(text: str) -> Credentials:
    """
    Read the file's text.

    Raises:
        CredentialsInvalid: not TOML, an unknown field, a value of the wrong kind, or a secret that is a placeholder or
            too short; says which.
    """
    try:
        credentials = msgspec.convert(tomllib.loads(text), Credentials)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise CredentialsInvalid(str(error)) from error
    for place, secret in _secrets_of(credentials):
        if fault := secret_fault(secret):
            raise CredentialsInvalid(f"{place} {fault}: write a random one there (`openssl rand -hex 32`)")
    if fault := _issuers_fault(credentials):
        raise CredentialsInvalid(fault)
    return credentials


def _issuers_fault(credentials: Credentials) -> str | None:
    names: dict[str, str] = {}
    for name, issuer in credentials.issuers.items():
        if fault := issuer_fault(issuer):
            return f"issuers.{name} {fault}"
        if (other := names.setdefault(issuer.iss, name)) != name:
            return f"issuers.{name} has the iss of issuers.{other}"
    for number, denial in enumerate(credentials.denied):
        if fault := denial_fault(denial):
            return f"denied[{number}] {fault}"
    return None


def _secrets_of(credentials: Credentials) -> Iterator[tuple[str, str]]:
    for number, secret in enumerate(credentials.gateway.mac_secrets):
        yield f"gateway.mac_secrets[{number}]", secret
    for tenant_id, tenant in credentials.tenants.items():
        for agent_id, agent in tenant.agents.items():
            for number, secret in enumerate(agent.secrets):
                yield f"tenants.{tenant_id}.agents.{agent_id}.secrets[{number}]", secret
    for name, issuer in credentials.issuers.items():
        if issuer.secret is not None:
            yield f"issuers.{name}.secret", issuer.secret


def dump(credentials: Credentials) -> str:
    """Return the text of a new file for *credentials*."""
    return toml_text.new(fields(credentials))


def fields(value: Credentials | Tenant | Agent | ApiKey) -> dict[str, Any]:
    """Return *value* as the file has it: without defaults, since TOML has no null and an absent field says the same."""
    converted: dict[str, Any] = msgspec.to_builtins(value, builtin_types=(datetime,))
    return converted


def write(path: Path, credentials: Credentials) -> bool:
    """
    Replace the content of the file. What *credentials* does not change in it keeps its comments, order and notation.

    See `replace_text` for what is returned, and for OSError.

    Raises:
        NotEditable: it is written in a way that would lose its comments.
    """
    return replace_text(path, _text_of(path, credentials))


def _text_of(path: Path, credentials: Credentials) -> str:
    try:
        text = path.read_text()
        before = parse(text)
    except (FileNotFoundError, ValueError):  # nothing in it that could be kept
        return dump(credentials)
    changed = toml_text.changed(text, fields(before), fields(credentials))
    try:
        if parse(changed) == credentials:
            return changed
    except CredentialsInvalid:
        pass
    if "#" in text:
        raise NotEditable(f"{path} would lose its comments: change it by hand")
    return dump(credentials)


def new_key(
    *, tenant: str, rights: list[Right], agents: list[str] | None, now: datetime, expires_at: datetime | None = None
) -> tuple[str, str, ApiKey]:
    """Make an API key: its id, the whole key (to be shown once) and the entry to keep."""
    key_id = secrets.token_hex(KEY_ID_BYTES)
    secret = secrets.token_hex(KEY_SECRET_BYTES)
    entry = ApiKey(
        tenant=tenant,
        sha256=hashlib.sha256(secret.encode()).hexdigest(),
        rights=rights,
        agents=agents,
        created_at=now.astimezone(UTC),
        expires_at=expires_at,
    )
    return key_id, f"tg_{key_id}_{secret}", entry


def new_secret() -> str:
    """Return a signing secret of 256 random bits."""
    return secrets.token_hex(32)


class CredentialsFile(WatchedFile[Credentials]):
    """
    The file as it is now, with the gateway's own secrets as they are in force.

    The first of `gateway.mac_secrets` signs; one that was put there a moment ago comes later, and one that was removed
    a moment ago is still among them.
    """

    def __init__(self, path: Path) -> None:
        """
        Read the file once.

        Raises:
            CredentialsInvalid: it is missing, exposed or cannot be used. Do not start.
        """
        try:
            super().__init__(path, parse, secret=True)
        except CredentialsInvalid as error:
            raise CredentialsInvalid(f"{path} cannot be used: {error}") from error
        except OSError as error:
            raise CredentialsInvalid(read_failure(path, error)) from error
        except SecretFileExposed as error:
            raise CredentialsInvalid(str(error)) from error
        except UnicodeDecodeError as error:
            raise CredentialsInvalid(f"{path} is not UTF-8") from error
        self._rotation = MacSecrets(self._current.gateway.mac_secrets)
        self._listed = self._current  # what the rotation knows of
        self._derived = self._current
        self._derived_at_s = float("-inf")

    def _in_force(self, now_s: float) -> Credentials:
        if self._current is not self._listed or now_s - self._derived_at_s >= RETRY_DELAY_S:
            self._derive(now_s)
        return self._derived

    def _derive(self, now_s: float) -> None:
        if changed := self._current is not self._listed:
            self._rotation.update(self._current.gateway.mac_secrets, now_s=now_s)
            self._listed = self._current
        self._derived_at_s = now_s
        gateway = Gateway(mac_secrets=self._rotation.in_force(now_s=now_s))
        if changed or gateway != self._derived.gateway:
            self._derived = msgspec.structs.replace(self._current, gateway=gateway)


class CurrentCredentials(Protocol):
    """The credentials of a running process."""

    def __call__(self) -> Credentials:
        """Return those in force, at most a second old."""

    def newer(self, than: Credentials) -> Credentials | None:
        """Return those that the file has now, or None if they are *than*; see `WatchedFile.newer`."""


def decide(
    judge: Callable[[Credentials], Verdict], credentials: CurrentCredentials, *, refuses: Callable[[Verdict], bool]
) -> Verdict:
    """Return the verdict of *judge*; before one that *refuses* counts, *judge* is asked by what the file says now."""
    used = credentials()
    verdict = judge(used)
    if refuses(verdict) and (newer := credentials.newer(used)) is not None:
        return judge(newer)
    return verdict


def authenticate(presented: str, credentials: CurrentCredentials, *, now: datetime) -> tuple[Principal, Credentials]:
    """
    Return the principal of the key *presented*, even of one made a moment ago, and the credentials that have it.

    Raises as `Credentials.authenticate`.
    """
    used = credentials()
    try:
        return used.authenticate(presented, now=now), used
    except KeyRefused:
        newer = credentials.newer(used)
        if newer is None:
            raise
        return newer.authenticate(presented, now=now), newer


class FileCredentials:
    """The credentials of a file, by a clock."""

    def __init__(self, file: CredentialsFile, *, clock_s: Callable[[], float] = monotonic) -> None:
        """Read *file* by *clock_s*, a monotonic clock."""
        self._file = file
        self._clock_s = clock_s

    def __call__(self) -> Credentials:
        """See `CurrentCredentials`."""
        return self._file.current(now_s=self._clock_s())

    def newer(self, than: Credentials) -> Credentials | None:
        """See `CurrentCredentials`."""
        return self._file.newer(than, now_s=self._clock_s())
