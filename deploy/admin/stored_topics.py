"""The topics whose places Postgres holds: which rows have them, and whether a row is of the record that the log has."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, LiteralString

from schemas.documents import codec as documents_codec
from schemas.documents import records as documents_records
from schemas.documents import topics as documents
from schemas.errors import Poison
from schemas.events.codec import EVENT_CODEC
from schemas.events.records import uid_of
from schemas.events.topics import EVENTS
from schemas.jobs import codec as jobs_codec
from schemas.jobs import records as jobs_records
from schemas.jobs import topics as jobs
from schemas.kafka.codec import Codec
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
    renumber: tuple[LiteralString, ...] = ()  # of a partition, or of all where %(partition)s is null

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


def _is_of_command(codec: Codec[Any], id_of: Callable[[Any], str]) -> Callable[[bytes | None, Row], bool]:
    def is_of(value: bytes | None, row: Row) -> bool:
        try:
            return bool(id_of(codec.decode(value)) == row[1])
        except Poison:
            return False

    return is_of


# Revisions are offsets. Those of a log that is gone keep their order among each other, and are older than all to come.
_OLDER: LiteralString = f" - {2**53}"

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
    StoredTopic(
        group=jobs.INTAKE,
        tables=("job_commands", "job_rejections"),
        rows_from="""
            SELECT kafka_offset, command_id FROM job_commands
            WHERE kafka_partition = %s AND kafka_offset >= %s ORDER BY kafka_offset
        """,
        is_of=_is_of_command(jobs_codec.COMMAND_CODEC, jobs_records.record_id),
    ),
    StoredTopic(
        group=documents.INTAKE,
        tables=("document_commands", "document_rejections"),
        rows_from="""
            SELECT kafka_offset, command_id FROM document_commands
            WHERE kafka_partition = %s AND kafka_offset >= %s ORDER BY kafka_offset
        """,
        is_of=_is_of_command(documents_codec.COMMAND_CODEC, documents_records.record_id),
        renumber=(
            f"""
            UPDATE documents SET latest_revision = latest_revision{_OLDER}, live_revision = live_revision{_OLDER},
                deleted_revision = deleted_revision{_OLDER}, building_revision = building_revision{_OLDER}
            WHERE %(partition)s::integer IS NULL OR partition = %(partition)s
            """,  # noqa: S608  the part is a number of ours
            f"""
            UPDATE document_jobs SET revision = revision{_OLDER}
            WHERE %(partition)s::integer IS NULL OR partition = %(partition)s
            """,  # noqa: S608
        ),
    ),
)
