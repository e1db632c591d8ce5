"""
The endpoints file: where events are sent as webhooks, and how each endpoint wants to be treated.

TOML, mode 0600, for it holds signing secrets. A worker re-reads it when it changes; a file that cannot be used leaves
the last good one in force. Secrets are those of Standard Webhooks (`whsec_` and base64): each signs, so that a receiver
may change from the first to the second while both are valid.
"""

import base64
import binascii
import re
import secrets
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.access.credentials import Name
from schemas.access.placeholders import secret_fault
from schemas.kafka.topics import DELAY_PATTERN, Group
from schemas.process.file_writing import read_failure
from schemas.process.secret_files import SecretFileExposed
from schemas.process.settings import SettingsInvalid, setting
from schemas.process.watched import WatchedFile
from schemas.runs.pushed import RUN_FINALIZED
from schemas.runs.records import EnvironmentCaptured, RunFinalized, RunRecord
from schemas.runs.topics import EVALUATION

SECRET_PREFIX = "whsec_"  # noqa: S105  what a secret begins with
SECRET_BYTES_MIN = 24
DEFAULT = "default"  # the name of the one endpoint that settings alone describe

EndpointName = Annotated[str, Meta(pattern=rf"^{EVALUATION.member_pattern}$")]
TypePattern = Annotated[str, Meta(pattern=r"^(\*|[a-z][a-z0-9_.-]*(\.\*)?)$", max_length=128)]
Delay = Annotated[str, Meta(pattern=rf"^{DELAY_PATTERN}$")]
Seconds = Annotated[float, Meta(gt=0, le=3600)]

# Ours to set, or the connection's.
_RESERVED_HEADERS = re.compile(r"(?i)(webhook-.*|host|content-.*|transfer-encoding|connection|traceparent)\Z")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,4096}\Z")


class EndpointsInvalid(ValueError):
    """The endpoints file cannot be used. Keep the last good one and tell a person."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One endpoint; every default is what a receiver of webhooks would expect."""

    url: str
    secrets: Annotated[tuple[str, ...], Meta(min_length=1, max_length=4)]
    tenant: Name | None = None  # None: events of every tenant
    types: Annotated[tuple[TypePattern, ...], Meta(min_length=1)] = ("*",)  # of events, or run_finalized
    resolve: bool = False  # whether payloads that are kept in object storage are sent too
    headers: dict[str, str] = {}
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 10.0  # of one attempt, the answer's body included
    concurrency: Annotated[int, Meta(ge=1, le=256)] = 8  # attempts under way at once
    retries_s: Annotated[tuple[Seconds, ...], Meta(min_length=1, max_length=10)] = (1.0, 2.0, 4.0)  # pauses in place
    breaker_open_s: Seconds = 30.0
    delays: Annotated[tuple[Delay, ...], Meta(max_length=6)] = EVALUATION.delays


class Endpoints(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: `[endpoints.NAME]`."""

    endpoints: dict[EndpointName, Endpoint] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointsSettings:
    """The destinations of webhooks: a file of endpoints, or one address for all events."""

    file: Path | None = setting("TIDEGATE_ENDPOINTS", None, help="File of webhook endpoints (TOML, mode 0600)")
    url: str = setting("TIDEGATE_EVALUATION_URL", "", help="Instead of a file: the one endpoint, called default")
    secret: str = setting("TIDEGATE_EVALUATION_SECRET", "", help="Its signing secret, whsec_...", secret=True)


def parse(text: str) -> Endpoints:
    """
    Read the file's text.

    Raises:
        EndpointsInvalid: no TOML, an unknown field, or a value that cannot be used; says which.
    """
    try:
        read = msgspec.convert(tomllib.loads(text), Endpoints)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise EndpointsInvalid(str(error)) from error
    for name, endpoint in read.endpoints.items():
        if fault := _fault(endpoint):
            raise EndpointsInvalid(f"endpoint {name}: {fault}")
    return read


def watch(settings: EndpointsSettings) -> Callable[[], Endpoints]:
    """
    Return the endpoints in force, read again at each call.

    Raises:
        SettingsInvalid: what *settings* name cannot be used.
    """
    if settings.file is not None:
        return _watch(settings.file)
    if not settings.url:
        return Endpoints
    only = Endpoints(endpoints={DEFAULT: Endpoint(url=settings.url, secrets=(settings.secret,))})
    if fault := _fault(only.endpoints[DEFAULT]):
        raise SettingsInvalid(f"TIDEGATE_EVALUATION_SECRET: {fault}")
    return lambda: only


def _watch(path: Path) -> Callable[[], Endpoints]:
    try:
        watched = WatchedFile(path, parse, secret=True)
    except SecretFileExposed as error:
        raise SettingsInvalid(f"TIDEGATE_ENDPOINTS: {error}") from error
    except (OSError, ValueError) as error:  # not UTF-8 too
        raise SettingsInvalid(f"TIDEGATE_ENDPOINTS: {read_failure(path, error)}") from error
    return lambda: watched.current(now_s=monotonic())


def groups(endpoints: Endpoints) -> tuple[Group, ...]:
    """Return the group of each endpoint."""
    return tuple(EVALUATION.group(name, delays=each.delays) for name, each in endpoints.endpoints.items())


def is_wanted(record: RunRecord, *, tenant: str | None, types: Sequence[str]) -> bool:
    """Return True if an endpoint of *tenant* (None: of all) that asks for *types* must be sent *record*."""
    if isinstance(record, EnvironmentCaptured) or tenant not in (None, record.tenant):
        return False
    kind = RUN_FINALIZED if isinstance(record, RunFinalized) else record.type
    return any(matches(kind, pattern) for pattern in types)


def new_secret() -> str:
    """Return a signing secret of 256 random bits."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def matches(kind: str, pattern: str) -> bool:
    """Return True if *pattern* asks for events of the type *kind*."""
    if pattern == "*":
        return True
    return kind.startswith(pattern[:-1]) if pattern.endswith(".*") else kind == pattern


def _fault(endpoint: Endpoint) -> str | None:
    return secrets_fault(endpoint.secrets) or headers_fault(endpoint.headers)


def secrets_fault(secrets: Sequence[str]) -> str | None:
    """Return why one of *secrets* cannot sign webhooks; None if each can."""
    for number, secret in enumerate(secrets):
        if fault := secret_fault(secret.removeprefix(SECRET_PREFIX)):
            return f"secrets[{number}] {fault}: write a random one there (`echo whsec_$(openssl rand -base64 32)`)"
        try:
            key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except binascii.Error:
            key = b""
        if len(key) < SECRET_BYTES_MIN:
            return f"a secret is {SECRET_PREFIX} and base64 of at least {SECRET_BYTES_MIN} bytes"
    return None


def headers_fault(headers: Mapping[str, str]) -> str | None:
    """Return why one of *headers* cannot be set on a webhook; None if each can."""
    for name, value in headers.items():
        if not _HEADER_NAME.match(name) or _RESERVED_HEADERS.match(name):
            return f"header {name!r} may not be set"
        if not _HEADER_VALUE.match(value):
            return f"the value of header {name} is not printable ASCII"
    return None
