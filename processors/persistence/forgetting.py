"""Rows that reprocessing takes back, by the place of their record, before or after it writes them anew."""

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncCursor

from processors.persistence.verdicts import place_of
from processors.runtime.outcomes import Arrival

# Events go with their share of their run's count; runs are locked by then.
FORGET_EVENTS = """
    WITH places AS (
        SELECT * FROM unnest(%(partitions)s::integer[], %(offsets)s::bigint[])
    ), gone AS (
        DELETE FROM trace_events WHERE (kafka_partition, kafka_offset) IN (SELECT * FROM places)
        RETURNING tenant_id, run_id
    ), counted AS (
        SELECT tenant_id, run_id, count(*) AS events FROM gone GROUP BY tenant_id, run_id
    )
    UPDATE runs SET event_count = event_count - counted.events
    FROM counted WHERE (runs.tenant_id, runs.run_id) = (counted.tenant_id, counted.run_id)
"""

FORGET_DUPLICATES = """
    DELETE FROM duplicate_events
    WHERE (kafka_partition, kafka_offset) IN (SELECT * FROM unnest(%(partitions)s::integer[], %(offsets)s::bigint[]))
"""

FORGET_REJECTED = """
    DELETE FROM rejected_events
    WHERE (kafka_partition, kafka_offset) IN (SELECT * FROM unnest(%(partitions)s::integer[], %(offsets)s::bigint[]))
"""


async def forget_rejected(cursor: AsyncCursor[Any], stored: Sequence[Arrival]) -> None:
    """Take back that records were rejected which are *stored* now."""
    await cursor.execute(FORGET_REJECTED, _places(stored))


async def forget(cursor: AsyncCursor[Any], arrivals: Sequence[Arrival]) -> None:
    """Take back everything that was written for *arrivals*, but for finalizations and environments."""
    places = _places(arrivals)
    for statement in (FORGET_EVENTS, FORGET_DUPLICATES, FORGET_REJECTED):
        await cursor.execute(statement, places)


def _places(arrivals: Sequence[Arrival]) -> dict[str, list[int]]:
    places = [place_of(arrival) for arrival in arrivals]
    return {
        "partitions": [partition for partition, _ in places],
        "offsets": [offset for _, offset in places],
    }
