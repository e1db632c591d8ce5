"""
Rows that a replay deletes because it writes them again in the same transaction, or because the event is stored now.

Why by verdict and not by place: a record that is rejected today may have been stored when it came first. Its row stays.
"""

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncCursor

from processors.runs.persistence.verdicts import Verdicts, place_of
from processors.runtime.contract import Arrival
from schemas.runs.records import RunRecord

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


async def forget(
    cursor: AsyncCursor[Any], arrivals: Sequence[Arrival[RunRecord]], verdicts: Verdicts, *, rewrites: bool
) -> None:
    """
    Delete that records were rejected which *verdicts* store.

    With *rewrites* also delete the other rows of *arrivals*, each of which *verdicts* write again.
    """
    if rewrites:
        await cursor.execute(FORGET_EVENTS, _places(verdicts.events))
        for statement in (FORGET_DUPLICATES, FORGET_REJECTED):
            await cursor.execute(statement, _places(arrivals))
    else:
        await cursor.execute(FORGET_REJECTED, _places(verdicts.events))


def _places(arrivals: Sequence[Arrival[RunRecord]]) -> dict[str, list[int]]:
    places = [place_of(arrival) for arrival in arrivals]
    return {
        "partitions": [partition for partition, _ in places],
        "offsets": [offset for _, offset in places],
    }
