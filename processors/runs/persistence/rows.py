"""A judged slice as rows: COPY for events, one statement for each other table."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import AsyncCursor

from processors.postgres.copying import copy_rows
from processors.postgres.rejections import rejection_columns
from processors.runs.persistence.verdicts import RunKey, Verdicts, place_of
from processors.runtime.contract import Arrival
from processors.runtime.receiving import received_at
from schemas.errors import Poison, Reason
from schemas.objects.references import to_json
from schemas.runs.records import RunEvent, RunRecord

COPY_EVENTS = """
    COPY trace_events (tenant_id, run_id, seq, idempotency_key, t, happened_at, actor, type, agent_id, payload,
        payload_ref, meta, event_sha256, kafka_partition, kafka_offset, received_at) FROM STDIN (FORMAT BINARY)
"""

# How the columns above are sent; the texts of json columns as they are.
EVENT_TYPES = (
    *("text", "text", "int8", "text", "text", "timestamptz", "text", "text", "text", "text"),
    *("text", "text", "bytea", "int4", "int8", "timestamptz"),
)

# One row for each run that the slice speaks of; counts are added, since events of a run come in many slices. What was
# given up as abandoned goes on with whatever comes for it.
UPSERT_RUNS = """
    INSERT INTO runs (tenant_id, run_id, agent_id, event_count, last_seq, started_at, updated_at)
    SELECT * FROM unnest(%(tenants)s::text[], %(runs)s::text[], %(agents)s::text[], %(counts)s::bigint[],
        %(last_seqs)s::bigint[], %(started)s::timestamptz[], %(updated)s::timestamptz[])
    ON CONFLICT (tenant_id, run_id) DO UPDATE SET
        agent_id = coalesce(runs.agent_id, excluded.agent_id),
        event_count = runs.event_count + excluded.event_count,
        last_seq = greatest(runs.last_seq, excluded.last_seq),
        status = CASE runs.status WHEN 'abandoned' THEN 'open' ELSE runs.status END,
        updated_at = greatest(runs.updated_at, excluded.updated_at)
    RETURNING tenant_id, run_id, xmax = 0  -- true of a row that was inserted
"""

# The later in the log wins, whatever order slices are replayed in; a negative partition is a place that the log has
# lost. Between two partitions, one of them the wrong one, offsets say nothing: there the later capture wins.
UPSERT_ENVIRONMENT = """
    INSERT INTO environment_snapshots
        (tenant_id, run_id, environment, environment_sha256, captured_at, kafka_partition, kafka_offset)
    VALUES (%s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (tenant_id, run_id) DO UPDATE SET
        environment = excluded.environment, environment_sha256 = excluded.environment_sha256,
        captured_at = excluded.captured_at, kafka_partition = excluded.kafka_partition,
        kafka_offset = excluded.kafka_offset, stored_at = now()
    WHERE environment_snapshots.kafka_partition < 0
       OR CASE WHEN environment_snapshots.kafka_partition = excluded.kafka_partition
               THEN environment_snapshots.kafka_offset <= excluded.kafka_offset
               ELSE environment_snapshots.captured_at <= excluded.captured_at END
"""

# A record comes again after a crash: its place says that it is the same one.
INSERT_REJECTED = """
    INSERT INTO rejected_events
        (kafka_partition, kafka_offset, tenant_id, run_id, seq, reason, detail, key, value, received_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (kafka_partition, kafka_offset) DO NOTHING
"""

INSERT_DUPLICATE = """
    INSERT INTO duplicate_events (kafka_partition, kafka_offset, tenant_id, run_id, seq)
    VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (kafka_partition, kafka_offset) DO NOTHING
"""


async def write_run_rows(cursor: AsyncCursor[Any], verdicts: Verdicts) -> AbstractSet[RunKey]:
    """
    Write the rows of the runs, within the caller's transaction; return those that were there before.

    They are locked from then on: one that another transaction is inserting is waited for.
    """
    if not (runs := _run_rows(verdicts)):
        return frozenset()
    rows = await (await cursor.execute(UPSERT_RUNS, _upsert_parameters(runs))).fetchall()
    return {(tenant, run_id) for tenant, run_id, is_new in rows if not is_new}


async def write(cursor: AsyncCursor[Any], verdicts: Verdicts) -> None:
    """Write every other row that *verdicts* call for, within the caller's transaction."""
    if verdicts.events:
        await copy_rows(cursor, COPY_EVENTS, EVENT_TYPES, [_event_row(arrival) for arrival in verdicts.events])
    if verdicts.environments:
        await cursor.executemany(
            UPSERT_ENVIRONMENT, [_environment_row(each) for each in verdicts.environments.values()]
        )
    if verdicts.duplicates:
        await cursor.executemany(INSERT_DUPLICATE, [_identity(each) for each in verdicts.duplicates])
    if verdicts.rejected:
        rejections = [
            (*_identity(arrival), *rejection_columns(arrival, rejection)) for arrival, rejection in verdicts.rejected
        ]
        await cursor.executemany(INSERT_REJECTED, rejections)


def _event_row(arrival: Arrival[RunRecord]) -> tuple[object, ...]:
    event: Any = arrival.record
    raw = arrival.raw
    return (
        event.tenant,
        event.run_id,
        event.seq,
        event.idempotency_key,
        event.t,
        _moment(event.t),
        event.actor,
        event.type,
        event.agent_id,
        event.payload,
        None if event.payload_ref is None else to_json(event.payload_ref),
        event.meta,
        event.event_sha256,
        raw.partition,
        raw.offset,
        received_at(arrival),
    )


def _moment(t: str) -> datetime:
    try:
        return datetime.fromisoformat(t.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Poison(Reason.NOT_STORABLE, f"t: {error}") from error


@dataclass(slots=True)
class _RunRow:
    first: Arrival[RunRecord]
    last: Arrival[RunRecord]
    agent_id: str | None = None
    event_count: int = 0
    last_seq: int = 0


def _run_rows(verdicts: Verdicts) -> dict[RunKey, _RunRow]:
    rows: dict[RunKey, _RunRow] = {}
    for arrival in (*verdicts.events, *verdicts.environments.values(), *verdicts.finalizations.values()):
        record = arrival.record
        run = (record.tenant, record.run_id)
        row = rows.get(run)
        if row is None:
            rows[run] = row = _RunRow(arrival, arrival)
        row.last = arrival
        if isinstance(record, RunEvent):
            row.agent_id = row.agent_id or record.agent_id
            row.event_count += 1
            row.last_seq = max(row.last_seq, record.seq)
    return rows


def _upsert_parameters(rows: dict[RunKey, _RunRow]) -> dict[str, list[Any]]:
    # Sorted: the order in which LOCK_RUNS took them.
    columns = [
        (tenant, run_id, row.agent_id, row.event_count, row.last_seq, received_at(row.first), received_at(row.last))
        for (tenant, run_id), row in sorted(rows.items(), key=lambda item: item[0])
    ]
    names = ("tenants", "runs", "agents", "counts", "last_seqs", "started", "updated")
    return {name: list(values) for name, values in zip(names, zip(*columns, strict=True), strict=True)}


def _environment_row(arrival: Arrival[RunRecord]) -> tuple[object, ...]:
    record: Any = arrival.record
    return (
        record.tenant,
        record.run_id,
        record.environment,
        record.environment_sha256,
        record.captured_at,
        *place_of(arrival),
    )


def _identity(arrival: Arrival[RunRecord]) -> tuple[object, ...]:
    seq = arrival.record.seq if isinstance(arrival.record, RunEvent) else None
    return (arrival.raw.partition, arrival.raw.offset, arrival.record.tenant, arrival.record.run_id, seq)
