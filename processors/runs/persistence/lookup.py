"""Lookups in the store that decide about the records of a slice."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncCursor

from processors.runs.persistence.verdicts import Finalization, RunKey, StoredState, run_of
from processors.runtime.contract import Arrival
from schemas.runs.records import RunEvent, RunRecord, RunStatus

# Locks the runs of the slice, in one order for all, so that no two transactions wait for each other.
LOCK_RUNS = """
    SELECT runs.tenant_id, runs.run_id, runs.status, runs.events_removed_count > 0, trace_records.kafka_partition,
        trace_records.kafka_offset
    FROM runs
    LEFT JOIN trace_records USING (tenant_id, run_id)
    WHERE (tenant_id, run_id) IN (SELECT * FROM unnest(%(tenants)s::text[], %(runs)s::text[]))
    ORDER BY tenant_id, run_id
    FOR UPDATE OF runs
"""

# What is stored under the slice's seqs, idempotency keys and places: three index look-ups a record.
KNOWN_EVENTS = """
    WITH arrived AS (
        SELECT * FROM unnest(
            %(tenants)s::text[], %(runs)s::text[], %(seqs)s::bigint[], %(keys)s::text[],
            %(partitions)s::integer[], %(offsets)s::bigint[]
        ) AS arrived (tenant_id, run_id, seq, idempotency_key, kafka_partition, kafka_offset)
    ), places AS (
        SELECT stored.kafka_partition, stored.kafka_offset
        FROM trace_events stored JOIN arrived USING (tenant_id, run_id, seq)
        UNION
        SELECT stored.kafka_partition, stored.kafka_offset
        FROM trace_events stored JOIN arrived USING (tenant_id, run_id, idempotency_key)
        UNION
        SELECT kafka_partition, kafka_offset FROM arrived
    )
    SELECT tenant_id, run_id, seq, idempotency_key, event_sha256, kafka_partition, kafka_offset
    FROM trace_events JOIN places USING (kafka_partition, kafka_offset)
"""

_CLOSED = frozenset(RunStatus)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedRuns:
    """The runs of a slice that are stored, and locked until the transaction ends."""

    stored: AbstractSet[RunKey]
    closed: dict[RunKey, Finalization]
    with_removed_events: AbstractSet[RunKey]


async def lock_runs(cursor: AsyncCursor[Any], arrivals: Sequence[Arrival[RunRecord]]) -> LockedRuns:
    """Lock the runs that *arrivals* belong to."""
    runs = sorted({run_of(arrival) for arrival in arrivals})
    asked = {"tenants": [tenant for tenant, _ in runs], "runs": [run_id for _, run_id in runs]}
    rows = await (await cursor.execute(LOCK_RUNS, asked)).fetchall()
    if any(status in _CLOSED and partition is None for _, _, status, _, partition, _ in rows):
        # Another worker closed it while we waited for its lock: the row is the new one, and the joined trace record is
        # of the snapshot before. The locks are ours, so that a second look sees all.
        rows = await (await cursor.execute(LOCK_RUNS, asked)).fetchall()
    return LockedRuns(
        stored={(tenant, run_id) for tenant, run_id, *_ in rows},
        closed={
            (tenant, run_id): Finalization(status=RunStatus(status), place=(partition, offset))
            for tenant, run_id, status, _, partition, offset in rows
            if partition is not None
        },
        with_removed_events={(tenant, run_id) for tenant, run_id, _, has_removed, _, _ in rows if has_removed},
    )


async def add_stored(cursor: AsyncCursor[Any], arrivals: Sequence[Arrival[RunRecord]], known: StoredState) -> None:
    """Add to *known* the stored events that *arrivals* repeat or collide with."""
    events = [(arrival.raw, arrival.record) for arrival in arrivals if isinstance(arrival.record, RunEvent)]
    await cursor.execute(
        KNOWN_EVENTS,
        {
            "tenants": [event.tenant for _, event in events],
            "runs": [event.run_id for _, event in events],
            "seqs": [event.seq for _, event in events],
            "keys": [event.idempotency_key for _, event in events],
            "partitions": [raw.partition for raw, _ in events],
            "offsets": [raw.offset for raw, _ in events],
        },
    )
    for tenant, run_id, seq, key, sha256, partition, offset in await cursor.fetchall():
        known.sha256[tenant, run_id, seq] = sha256
        known.at[partition, offset] = (tenant, run_id, seq, sha256)
        if key is not None:
            known.seq[tenant, run_id, key] = seq
