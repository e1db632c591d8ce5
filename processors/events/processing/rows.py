"""The rows of the events that are processed: what they wait for, and what came of each call."""

from collections.abc import Iterator, Sequence
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
    SET status = ended.status, attempts = attempts + 1, error_class = ended.error_class, error = ended.error,
        result = coalesce(ended.result::jsonb, events.result),
        processed_at = CASE ended.status WHEN 'pending' THEN NULL ELSE now() END
    FROM unnest(%(partitions)s::integer[], %(offsets)s::bigint[], %(statuses)s::text[], %(error_classes)s::text[],
        %(errors)s::text[], %(results)s::text[])
        AS ended (kafka_partition, kafka_offset, status, error_class, error, result)
    WHERE events.kafka_partition = ended.kafka_partition AND events.kafka_offset = ended.kafka_offset
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

    async def note(self, ends: Sequence[CallEnd]) -> None:
        """Store the ends of calls in the rows of their events, in one transaction. Raises Transient, Poison."""
        async with self._writes.transaction() as (connection, _):
            for each in _rounds(ends):
                await connection.execute(
                    UPDATE,
                    {
                        "partitions": [end.place[0] for end in each],
                        "offsets": [end.place[1] for end in each],
                        "statuses": [end.status for end in each],
                        "error_classes": [end.error_class for end in each],
                        "errors": [end.error for end in each],
                        "results": [None if end.result is None else end.result.decode() for end in each],
                    },
                )


def _rounds(ends: Sequence[CallEnd]) -> Iterator[Sequence[CallEnd]]:
    """Yield *ends* in parts that name each place once, as one statement must; a record may be sent back twice."""
    while ends:
        first = {end.place: end for end in reversed(ends)}
        yield list(first.values())
        ends = [end for end in ends if first[end.place] is not end]
