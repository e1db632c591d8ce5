"""Records and rows of the groups that store rows: the record as a gateway writes it, the row as the bare loop does."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString

from confluent_kafka import Message

from schemas.events.codec import EVENT_CODEC
from schemas.events.records import key_of, record_id
from schemas.events.topics import USER_EVENTS
from schemas.kafka.topics import Topic
from schemas.runs.codec import RUN_CODEC
from schemas.runs.records import event_id
from schemas.runs.topics import RUN_EVENTS
from tests.support.builders import event, run_event, user_event

PAYLOAD = {"tool": "read", "path": "logs/day-17.txt", "text": "x" * 120}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingRecord:
    """A record as a gateway writes it."""

    key: bytes
    value: bytes
    tenant: str
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRows:
    """The rows of one group."""

    process: str
    topic: Topic
    schema: str  # of the records, in the registry
    record: Callable[[int, str, int], OutgoingRecord]  # by its number, a tag of the round, and how many keys there are
    count: LiteralString  # a statement: rows that Tidegate has stored
    table: LiteralString  # the bare loop's is like it
    copy: LiteralString
    row: Callable[[Mapping[str, Any], Message], tuple[object, ...]]


def _run_event(index: int, tag: str, keys: int) -> OutgoingRecord:
    given = event(
        index // keys + 1,
        run_id=f"{tag}-{index % keys}",
        type="tool_call",
        payload=PAYLOAD | {"call_id": f"c{index}"},
    )
    record = run_event(given)
    return OutgoingRecord(
        key=record.run_id.encode(),
        value=RUN_CODEC.encode(record),
        tenant=record.tenant,
        event_id=event_id(record.tenant, record.run_id, record.seq),
    )


def _user_event(index: int, tag: str, keys: int) -> OutgoingRecord:
    record = user_event(f"{tag}-{index}", user_id=f"{tag}-{index % keys}", payload=PAYLOAD | {"call_id": f"c{index}"})
    return OutgoingRecord(
        key=key_of(record), value=EVENT_CODEC.encode(record), tenant=record.tenant, event_id=record_id(record)
    )


def _received_at(message: Message) -> datetime:
    return datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)


def _run_event_row(record: Mapping[str, Any], message: Message) -> tuple[object, ...]:
    return (
        *(record[name] for name in ("tenant", "run_id", "seq", "idempotency_key", "t", "t", "actor", "type")),
        *(record["agent_id"], record["payload"], None, record["meta"], record["event_sha256"]),
        *(message.partition(), message.offset(), _received_at(message)),
    )


def _user_event_row(record: Mapping[str, Any], message: Message) -> tuple[object, ...]:
    names = ("tenant", "event_id", "source", "user_id", "type", "payload", "event_sha256")
    return (
        hashlib.sha256(record["event_id"].encode()).digest()[:16],
        *(record[name] for name in names),
        *(record["event_sha256"], record["payload"], record["authenticated"], record["user_verified"]),
        *(message.partition(), message.offset(), _received_at(message), _received_at(message), "ok", "processed"),
    )


RUN_EVENT_ROWS = StoredRows(
    process="persistence",
    topic=RUN_EVENTS,
    schema="tidegate.runs.RunEvent",
    record=_run_event,
    count="SELECT coalesce(sum(event_count), 0) FROM runs",
    table="trace_events",
    copy="""
        COPY bare_trace_events (tenant_id, run_id, seq, idempotency_key, t, happened_at, actor, type, agent_id, payload,
            payload_ref, meta, event_sha256, kafka_partition, kafka_offset, received_at) FROM STDIN
    """,
    row=_run_event_row,
)

# It derives nothing: the payload stands for the properties.
USER_EVENT_ROWS = StoredRows(
    process="events",
    topic=USER_EVENTS,
    schema="tidegate.events.UserEvent",
    record=_user_event,
    # By the ends of the partitions, which an index has: to count the rows would cost more than to store them.
    count="""
        SELECT coalesce(sum(last.kafka_offset + 1), 0)
        FROM generate_series(0, 63) AS number CROSS JOIN LATERAL
            (SELECT kafka_offset FROM events WHERE kafka_partition = number ORDER BY kafka_offset DESC LIMIT 1) AS last
    """,
    table="events",
    copy="""
        COPY bare_events (uid, tenant_id, event_id, source, user_id, type, payload, event_sha256, payload_sha256,
            properties, authenticated, user_verified, kafka_partition, kafka_offset, received_at, happened_at, clock,
            status) FROM STDIN
    """,
    row=_user_event_row,
)
