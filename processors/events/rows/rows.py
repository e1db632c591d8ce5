"""A judged slice as rows: COPY for events, one statement for each other table."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from psycopg import AsyncCursor

from processors.events.rows.verdicts import NewEvent, UserEventVerdicts, place_of
from processors.postgres.copying import copy_rows
from processors.postgres.rejections import rejection_columns
from processors.runtime.contract import Arrival
from processors.runtime.receiving import received_at
from schemas.events.properties import Schema, normalised
from schemas.events.records import UserEvent
from schemas.times import moment_of

COPY_EVENTS = """
    COPY events (uid, tenant_id, event_id, source, user_id, anonymous_id, session_id, run_id, type, name, occurred_at,
        happened_at, clock, payload, context, payload_sha256, event_sha256, properties, authenticated, user_verified,
        submitted_by, task_id, status, kafka_partition, kafka_offset, received_at)
    FROM STDIN (FORMAT BINARY)
"""

# How the columns above are sent. A jsonb is its text behind a version, and sent as it is: the driver would decode and
# encode it once more.
EVENT_TYPES = (
    *("bytea", "text", "text", "text", "text", "text", "text", "text", "text", "text", "text"),
    *("timestamptz", "text", "bytea", "bytea", "bytea", "bytea", "bytea", "text", "bool"),
    *("text", "uuid", "text", "int4", "int8", "timestamptz"),
)
JSONB_VERSION = b"\x01"

INSERT_USERS = """
    INSERT INTO event_users (tenant_id, user_id, first_seen_at)
    SELECT * FROM unnest(%(tenants)s::text[], %(users)s::text[], %(moments)s::timestamptz[]) AS arrived
    ON CONFLICT (tenant_id, user_id) DO NOTHING
"""

# A record comes again after a crash: its place says that it is the same one.
INSERT_DUPLICATE = """
    INSERT INTO event_duplicates
        (kafka_partition, kafka_offset, tenant_id, event_id, user_id, task_id, in_partition, in_offset)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (kafka_partition, kafka_offset) DO NOTHING
"""

INSERT_REJECTION = """
    INSERT INTO event_rejections
        (kafka_partition, kafka_offset, tenant_id, event_id, user_id, task_id, reason, detail, key, value, received_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (kafka_partition, kafka_offset) DO NOTHING
"""

# What is derived from an event, and so is made again by a replay that overwrites.
UPDATE_DERIVED = """
    UPDATE events SET properties = %s, happened_at = %s, clock = %s
    WHERE kafka_partition = %s AND kafka_offset = %s
"""

AHEAD_MAX = timedelta(minutes=5)
BEHIND_MAX = timedelta(days=7)


class Derived(NamedTuple):
    """The columns of a row that are derived, beside those that were sent."""

    happened_at: datetime
    clock: str
    properties: bytes  # JSON


class Derivation:
    """The derivation of columns from what was sent; the same for every row of a process."""

    def __init__(self, schemas: Mapping[str, Schema], pending_types: AbstractSet[str]) -> None:
        """Coerce properties by *schemas*, by type of event; events of *pending_types* wait for their processing."""
        self._schemas = schemas
        self._pending_types = pending_types

    @property
    def pending_types(self) -> Sequence[str]:
        """Return the types that functions process."""
        return sorted(self._pending_types)

    def derived(self, event: UserEvent, received: datetime) -> Derived:
        """Return what is derived from an event that was received at a moment."""
        happened_at = received if event.occurred_at is None else moment_of(event.occurred_at)
        properties = normalised(_decoded(event.payload), self._schemas.get(event.type))
        return Derived(happened_at, clock_of(happened_at, received), msgspec.json.encode(properties))

    def is_pending(self, event: UserEvent) -> bool:
        """Return True if a function processes events of this type."""
        return event.type in self._pending_types


def _decoded(payload: str) -> object:
    try:
        return msgspec.json.decode(payload)
    except msgspec.DecodeError:  # a number that it does not take, such as 1e-400
        return json.loads(payload)


def clock_of(happened_at: datetime, received: datetime) -> str:
    """Return the state of the sender's clock: ahead of ours, or its event is old."""
    if happened_at - received > AHEAD_MAX:
        return "future"
    return "stale" if received - happened_at > BEHIND_MAX else "ok"


async def write_users(cursor: AsyncCursor[Any], events: Sequence[NewEvent]) -> None:
    """Insert the users of *events* that are not there, within the caller's transaction."""
    users: dict[tuple[str, str], datetime] = {}
    for _, arrival in events:
        if (user_id := arrival.record.user_id) is not None:
            users.setdefault((arrival.record.tenant, user_id), received_at(arrival))
    if users:
        # In one order for all, so that no two transactions wait for each other.
        ordered = sorted(users)
        await cursor.execute(
            INSERT_USERS,
            {
                "tenants": [tenant for tenant, _ in ordered],
                "users": [user for _, user in ordered],
                "moments": [users[each] for each in ordered],
            },
        )


async def write(cursor: AsyncCursor[Any], verdicts: UserEventVerdicts, derivation: Derivation) -> Counter[str]:
    """
    Write every row that *verdicts* call for, within the caller's transaction; the users are there.

    Return how many of the events there are by their sender's clock.
    """
    derived = [derivation.derived(event.arrival.record, received_at(event.arrival)) for event in verdicts.events]
    if verdicts.events:
        rows = [_event_row(event, each, derivation) for event, each in zip(verdicts.events, derived, strict=True)]
        await copy_rows(cursor, COPY_EVENTS, EVENT_TYPES, rows)
    if verdicts.duplicates:
        await cursor.executemany(
            INSERT_DUPLICATE, [(*_identity(each.arrival), *each.first) for each in verdicts.duplicates]
        )
    if verdicts.rejected:
        rejections = [
            (*_identity(arrival), *rejection_columns(arrival, rejection)) for arrival, rejection in verdicts.rejected
        ]
        await cursor.executemany(INSERT_REJECTION, rejections)
    return Counter(each.clock for each in derived)


async def derive_again(
    cursor: AsyncCursor[Any], arrivals: Sequence[Arrival[UserEvent]], derivation: Derivation
) -> None:
    """Write what is derived from stored events once more."""
    rows = []
    for arrival in arrivals:
        found = derivation.derived(arrival.record, received_at(arrival))
        rows.append((found.properties.decode(), found.happened_at, found.clock, *place_of(arrival)))
    await cursor.executemany(UPDATE_DERIVED, rows)


def _event_row(new: NewEvent, derived: Derived, derivation: Derivation) -> tuple[object, ...]:
    event = new.arrival.record
    payload = event.payload.encode()
    return (
        new.uid,
        event.tenant,
        event.event_id,
        event.source,
        event.user_id,
        event.anonymous_id,
        event.session_id,
        event.run_id,
        event.type,
        event.name,
        event.occurred_at,
        derived.happened_at,
        derived.clock,
        JSONB_VERSION + payload,
        None if event.context is None else JSONB_VERSION + event.context.encode(),
        hashlib.sha256(payload).digest(),
        event.event_sha256,
        JSONB_VERSION + derived.properties,
        event.authenticated.value,
        event.user_verified,
        event.submitted_by,
        None if event.task_id is None else UUID(event.task_id),
        "pending" if derivation.is_pending(event) else "processed",
        new.arrival.raw.partition,
        new.arrival.raw.offset,
        received_at(new.arrival),
    )


def _identity(arrival: Arrival[UserEvent]) -> tuple[object, ...]:
    event = arrival.record
    return (*place_of(arrival), event.tenant, event.event_id, event.user_id, event.task_id)
