"""The stored state of open runs: their progress, their end, and the events with given numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import AsyncConnection

from gateway.runs.parsing.prepared import EventIdentity
from gateway.runs.sequence.memory import KnownEvent, RunEnd, RunKey, RunState
from schemas.kafka.places import RecordPlace
from schemas.runs.records import RunStatus
from schemas.runs.topics import RUN_EVENTS

# The place of the finalization is its trace record's.
RUNS = """
    SELECT tenant_id, run_id, last_seq, events_removed_at IS NOT NULL AS removed,
           closing.status, closing.kafka_partition, closing.kafka_offset
    FROM runs
    LEFT JOIN trace_records AS closing USING (tenant_id, run_id)
    WHERE (tenant_id, run_id) IN (SELECT * FROM unnest(%(tenants)s::text[], %(runs)s::text[]))
"""

EVENTS = """
    WITH asked AS (
        SELECT * FROM unnest(%(tenants)s::text[], %(runs)s::text[], %(seqs)s::bigint[], %(keys)s::text[])
            AS asked (tenant_id, run_id, seq, idempotency_key)
    )
    SELECT tenant_id, run_id, seq, stored.idempotency_key, event_sha256, kafka_partition, kafka_offset
    FROM trace_events AS stored JOIN asked USING (tenant_id, run_id, seq)
  UNION
    SELECT tenant_id, run_id, stored.seq, idempotency_key, event_sha256, kafka_partition, kafka_offset
    FROM trace_events AS stored JOIN asked USING (tenant_id, run_id, idempotency_key)
"""


async def run_states(
    connection: AsyncConnection[dict[str, Any]], asked: Sequence[tuple[RunKey, Sequence[EventIdentity]]]
) -> Mapping[RunKey, RunState]:
    """Return what is stored of the runs that are asked about; a run that is not there is not in the answer."""
    keys = {key for key, _ in asked}
    runs = {"tenants": [tenant for tenant, _ in keys], "runs": [run_id for _, run_id in keys]}
    rows = await (await connection.execute(RUNS, runs)).fetchall()
    heads = {(row["tenant_id"], row["run_id"]): row for row in rows}
    entries: dict[RunKey, dict[int, KnownEvent]] = {key: {} for key in heads}
    wanted = [(key, event) for key, events in asked if key in heads for event in events]
    if wanted:
        parameters = {
            "tenants": [tenant for (tenant, _), _ in wanted],
            "runs": [run_id for (_, run_id), _ in wanted],
            "seqs": [event.seq for _, event in wanted],
            "keys": [event.idempotency_key for _, event in wanted],
        }
        for row in await (await connection.execute(EVENTS, parameters)).fetchall():
            entries[row["tenant_id"], row["run_id"]][row["seq"]] = KnownEvent(
                sha256=row["event_sha256"], idempotency_key=row["idempotency_key"], place=_place(row)
            )
    return {
        key: RunState(head=row["last_seq"], entries=entries[key], closing=_closing(row), removed=row["removed"])
        for key, row in heads.items()
    }


def _closing(row: Mapping[str, Any]) -> RunEnd | None:
    return None if row["status"] is None else RunEnd(status=RunStatus(row["status"]), place=_place(row))


def _place(row: Mapping[str, Any]) -> RecordPlace:
    return RecordPlace(RUN_EVENTS.name, row["kafka_partition"], row["kafka_offset"])
