"""The record of user events, one frozen type per Avro schema; field meanings and units stand in `avsc/`."""

import hashlib
from collections.abc import Mapping
from enum import StrEnum

import msgspec

UID_BYTES = 16

# Ids that clients send where they know no user. Keyed by one, the events of all visitors would share a partition.
PLACEHOLDER_IDS = frozenset(
    {"0", "-1", "anon", "anonymous", "guest", "unknown", "undefined", "null", "none", "nil", "nan", "false", "true"}
    | {"[object object]", "not_authenticated", "backend", "server", "test", "id", "email", "user", "user_id"}
    | {"distinct_id", "distinctid", "anonymous_id", "session_id", "00000000-0000-0000-0000-000000000000"}
)


class Authenticated(StrEnum):
    """The way in which the sender of an event was authenticated."""

    TOKEN = "token"  # noqa: S105  of a JWT
    KEY = "key"
    DIRECT = "direct"


class UserEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of one user; `payload` and `context` are JSON texts as they were sent."""

    tenant: str
    event_id: str
    source: str
    user_id: str | None = None
    anonymous_id: str | None = None
    session_id: str | None = None
    run_id: str | None = None
    partition_key: str | None = None
    type: str
    name: str | None = None
    occurred_at: str | None = None
    payload: str
    context: str | None = None
    authenticated: Authenticated
    user_verified: bool = False
    submitted_by: str | None = None
    task_id: str | None = None
    event_sha256: bytes


def key_of(event: UserEvent) -> bytes:
    """
    Return the key of an event's record: events with one key keep their order.

    That of a run is the key of the run's own events, so that both topics of a run have it in one partition.
    """
    if event.run_id is not None:
        return event.run_id.encode()
    for owner in (event.partition_key, event.user_id, event.anonymous_id, event.session_id):
        if owner is not None and not is_placeholder(owner):
            return f"{event.tenant}/{owner}".encode()
    return event.event_id.encode()


def is_placeholder(owner: str) -> bool:
    """Return True if *owner* is what clients send where they know no user."""
    return owner.strip().lower() in PLACEHOLDER_IDS


def uid_of(event: UserEvent) -> bytes:
    """
    Return the digest of an event's identity (16 bytes).

    The user is part of it, so that nobody can take an id of another user's events.
    """
    # Lengths keep ("a", "bc") and ("ab", "c") apart.
    tenant, source, user, event_id = event.tenant, event.source, event.user_id or "", event.event_id
    message = f"{len(tenant)}:{tenant}{len(source)}:{source}{len(user)}:{user}{len(event_id)}:{event_id}"
    return hashlib.sha256(message.encode()).digest()[:UID_BYTES]


def record_id(event: UserEvent) -> str:
    """Return the stable id of an event's record: the same over retries and duplicates in the log."""
    return f"uev_{uid_of(event).hex()}"


def content_of(event: UserEvent, *, payload: object, context: object) -> Mapping[str, object]:
    """Return the content of an event, its JSON texts decoded: what its digest is taken of."""
    content = {
        "anonymous_id": event.anonymous_id,
        "session_id": event.session_id,
        "run_id": event.run_id,
        "partition_key": event.partition_key,
        "type": event.type,
        "name": event.name,
        "occurred_at": event.occurred_at,
        "context": context,
    }
    return {name: value for name, value in content.items() if value is not None} | {"payload": payload}
