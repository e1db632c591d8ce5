"""The rows of the events that are processed: what they wait for, and what came of each call."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from processors.postgres.writes import PostgresWrites

Place = tuple[int, int]  # partition, offset

# A record that repeats another or breaks a rule is in one of the other tables, and no function is called for it.
STATES = """
    SELECT kafka_partition, kafka_offset, status, attempts, processed_at IS NOT NULL
    FROM events
    JOIN unnest(%(partitions)s::integer[], %(offsets)s::bigint[]) AS arrived (kafka_partition, kafka_offset)
        USING (kafka_partition, kafka_offset)
  UNION ALL
    SELECT kafka_partition, kafka_offset, 'not stored', 0, false
    FROM (SELECT kafka_partition, kafka_offset FROM event_duplicates
          UNION ALL
          SELECT kafka_partition, kafka_offset FROM event_rejections) AS others
    JOIN unnest(%(partitions)s::integer[], %(offsets)s::bigint[]) AS arrived (kafka_partition, kafka_offset)
        USING (kafka_partition, kafka_offset)
"""

UPDATE = """
    UPDATE events
    SET status = %(status)s, attempts = attempts + 1, error_class = %(error_class)s, error = %(error)s,
        result = coalesce(%(result)s::jsonb, result),
        processed_at = CASE %(status)s WHEN 'pending' THEN NULL ELSE now() END
    WHERE kafka_partition = %(partition)s AND kafka_offset = %(offset)s
"""


class EventState(StrEnum):
    """The state of a record in the tables."""

    PENDING = "pending"
    PROCESSED = "processed"
    FAILED = "failed"
    NOT_STORED = "not stored"


class RowState(NamedTuple):
    """The row of an event."""

    state: EventState
    attempts: int
    was_called: bool  # and its end was noted


class CallEnd(NamedTuple):
    """The end of one call."""

    place: Place
    status: EventState
    result: bytes | None = None
    error_class: str | None = None
    error: str | None = None


class ProcessedRows:
    """The rows of user events, as processing reads and updates them."""

    def __init__(self, writes: PostgresWrites) -> None:
        """Use the connections of *writes*."""
        self._writes = writes

    async def states(self, places: Sequence[Place]) -> dict[Place, RowState]:
        """Return what is stored at *places*; one that is missing is not stored yet. Raises Transient."""
        async with self._writes.transaction() as (connection, _):
            rows = await (
                await connection.execute(
                    STATES,
                    {"partitions": [place[0] for place in places], "offsets": [place[1] for place in places]},
                )
            ).fetchall()
        return {
            (partition, offset): RowState(EventState(state), attempts, was_called)
            for partition, offset, state, attempts, was_called in rows
        }

    async def note(self, end: CallEnd) -> None:
        """Keep the end of a call in its event's row. Raises Transient, Poison."""
        async with self._writes.transaction() as (connection, _):
            await connection.execute(
                UPDATE,
                {
                    "status": end.status,
                    "error_class": end.error_class,
                    "error": end.error,
                    "result": None if end.result is None else end.result.decode(),
                    "partition": end.place[0],
                    "offset": end.place[1],
                },
            )
