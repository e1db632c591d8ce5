"""The topics whose places Postgres holds: which rows have them, and whether a row is of the record that the log has."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, LiteralString

from schemas.errors import Poison
from schemas.events.codec import EVENT_CODEC
from schemas.events.records import uid_of
from schemas.events.topics import EVENTS
from schemas.kafka.topics import Group
from schemas.runs.codec import RUN_CODEC
from schemas.runs.records import RunEvent
from schemas.runs.topics import PERSISTENCE

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTopic:
    """One topic, and the rows that its group writes."""

    group: Group
    tables: tuple[str, ...]  # each with a place of the topic in kafka_partition and kafka_offset
    rows_from: (
        LiteralString  # the rows of a partition (%s) from an offset (%s) on: their offset, and what identifies them
    )
    is_of: Callable[[bytes | None, Row], bool]  # whether the value of a record is what a row was stored from

    @property
    def topic(self) -> str:
        """Return its name."""
        return self.group.source.name


def _is_of_run_event(value: bytes | None, row: Row) -> bool:
    try:
        record = RUN_CODEC.decode(value)
    except Poison:
        return False
    _, tenant, run_id, seq, sha256 = row
    stored: object = (tenant, run_id, seq, bytes(sha256))
    return isinstance(record, RunEvent) and stored == (record.tenant, record.run_id, record.seq, record.event_sha256)


def _is_of_user_event(value: bytes | None, row: Row) -> bool:
    try:
        record = EVENT_CODEC.decode(value)
    except Poison:
        return False
    _, uid, sha256 = row
    return bool((bytes(uid), bytes(sha256)) == (uid_of(record), record.event_sha256))


STORED_TOPICS = (
    StoredTopic(
        group=PERSISTENCE,
        tables=("trace_events", "duplicate_events", "rejected_events", "environment_snapshots", "trace_records"),
        rows_from="""
            SELECT kafka_offset, tenant_id, run_id, seq, event_sha256 FROM trace_events
            WHERE kafka_partition = %s AND kafka_offset >= %s ORDER BY kafka_offset
        """,
        is_of=_is_of_run_event,
    ),
    StoredTopic(
        group=EVENTS,
        tables=("events", "event_duplicates", "event_rejections"),
        rows_from="""
            SELECT kafka_offset, uid, event_sha256 FROM events
            WHERE kafka_partition = %s AND kafka_offset >= %s ORDER BY kafka_offset
        """,
        is_of=_is_of_user_event,
    ),
)
