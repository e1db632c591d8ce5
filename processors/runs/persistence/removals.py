"""Removals from a run by retention: the seqs, and the head of the chain from which its later events continue."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from psycopg import AsyncConnection, AsyncCursor

from processors.runs.persistence.trace import MISSING_RANGES_MAX, MissingSeqs, RemovedEvents
from processors.runs.persistence.verdicts import RunKey
from processors.runtime.contract import Arrival
from schemas.runs.chain import CHAIN_START
from schemas.runs.records import RunRecord

# A replay stores removed events again: they are not removed any more.
MARK_RETURNED = """
    WITH returned AS (
        SELECT tenant_id, run_id, range_agg(numrange(seq::numeric, seq::numeric + 1)) AS seqs
        FROM unnest(%(tenants)s::text[], %(runs)s::text[], %(seqs)s::bigint[]) AS stored (tenant_id, run_id, seq)
        GROUP BY tenant_id, run_id
    )
    UPDATE runs SET events_removed_seqs = events_removed_seqs - returned.seqs,
        events_removed_count = (SELECT coalesce(sum(upper(range) - lower(range)), 0)::bigint
                                FROM unnest(events_removed_seqs - returned.seqs) AS range)
    FROM returned
    WHERE (runs.tenant_id, runs.run_id) = (returned.tenant_id, returned.run_id)
      AND runs.events_removed_seqs && returned.seqs
"""

REMOVED_EVENTS = """
    SELECT events_removed_at, events_removed_count, coalesce(events_removed_chain_head, %(start)s),
        (SELECT json_agg(json_build_array(lower(range), upper(range) - 1) ORDER BY lower(range))
         FROM (SELECT range FROM unnest(events_removed_seqs) AS range ORDER BY lower(range) LIMIT %(ranges)s) AS shown)
    FROM runs
    WHERE tenant_id = %(tenant)s AND run_id = %(run)s AND events_removed_count > 0
"""

# What is neither stored nor removed, up to the last seq of either.
MISSING_BESIDE_REMOVED = """
    WITH numbered AS (
        SELECT seq, lag(seq, 1, 0::bigint) OVER (ORDER BY seq) AS before
        FROM trace_events
        WHERE tenant_id = %(tenant)s AND run_id = %(run)s
    ), gaps AS (
        SELECT coalesce(range_agg(numrange(before::numeric + 1, seq::numeric)) FILTER (WHERE seq > before + 1), '{}')
               AS seqs, coalesce(max(seq), 0)::numeric + 1 AS behind
        FROM numbered
    ), missing AS (
        SELECT unnest(
            gaps.seqs - run.events_removed_seqs + (
                nummultirange(numrange(gaps.behind, greatest(gaps.behind, upper(run.events_removed_seqs))))
                - run.events_removed_seqs
            )
        ) AS range
        FROM gaps, runs AS run
        WHERE run.tenant_id = %(tenant)s AND run.run_id = %(run)s
    )
    SELECT (SELECT coalesce(sum(upper(range) - lower(range)), 0)::bigint FROM missing),
        (SELECT coalesce(json_agg(json_build_array(lower(range), upper(range) - 1) ORDER BY lower(range)), '[]')
         FROM (SELECT range FROM missing ORDER BY lower(range) LIMIT %(ranges)s) AS shown)
"""


async def mark_returned(
    cursor: AsyncCursor[Any], events: Sequence[Arrival[RunRecord]], runs: AbstractSet[RunKey]
) -> None:
    """Take those of *events* that belong to *runs* out of what is removed from them; their rows are locked."""
    records: list[Any] = [arrival.record for arrival in events]
    returned = [record for record in records if (record.tenant, record.run_id) in runs]
    if returned:
        await cursor.execute(
            MARK_RETURNED,
            {
                "tenants": [record.tenant for record in returned],
                "runs": [record.run_id for record in returned],
                "seqs": [record.seq for record in returned],
            },
        )


async def removed_from(connection: AsyncConnection, run: RunKey) -> RemovedEvents | None:
    """Return what retention removed from *run* and no replay has stored again; None if there is nothing."""
    asked = {"tenant": run[0], "run": run[1], "ranges": MISSING_RANGES_MAX, "start": CHAIN_START}
    row = await (await connection.execute(REMOVED_EVENTS, asked)).fetchone()
    if row is None:
        return None
    count, ranges = await (await connection.execute(MISSING_BESIDE_REMOVED, asked)).fetchone() or (0, [])
    return RemovedEvents(
        at=row[0], count=row[1], chain_head=row[2], ranges=row[3], missing=MissingSeqs(count=count, ranges=ranges)
    )
