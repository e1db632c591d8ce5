"""
Relays of outboxes: rows that a transaction leaves beside its change become records of a topic.

One process relays at a time, in the order of the rows, and deletes what the broker has acknowledged in the transaction
that read it: a crash between the two writes some records again, which their ids tell.
"""

from collections.abc import Callable, Sequence
from typing import Any, LiteralString

from psycopg import AsyncCursor

from processors.postgres.writes import PostgresWrites
from processors.runtime.dead_letters import LogWriter, OutgoingRecord
from schemas.kafka.topics import Topic

ROWS_MAX = 1000

LOCK = "SELECT pg_try_advisory_xact_lock(hashtext(%s))"


class Relay:
    """A relay of the rows of one table to one topic."""

    def __init__(
        self,
        writes: PostgresWrites,
        writer: LogWriter,
        *,
        topic: Topic,
        take: LiteralString,
        record_of: Callable[[Sequence[Any]], OutgoingRecord],
        published: Callable[[int], None],
    ) -> None:
        """Turn what *take* deletes into records of *topic*; *published* is given how many."""
        self._writes = writes
        self._writer = writer
        self._topic = topic
        self._take = take
        self._record_of = record_of
        self._published = published

    async def go_on(self) -> bool:
        """
        Write the oldest rows to the log; return True if there may be more.

        Raises:
            Transient: Kafka or Postgres is away. Nothing is lost, and some may be written again.
        """
        async with self._writes.transaction() as (connection, goes_on), connection.cursor() as cursor:
            if not await self._is_alone(cursor):
                return False
            await cursor.execute(self._take, {"limit": ROWS_MAX})
            rows = await cursor.fetchall()
            if rows:
                goes_on()
                await self._writer.write(self._topic, [self._record_of(row) for row in rows])
        self._published(len(rows))
        return len(rows) == ROWS_MAX

    async def _is_alone(self, cursor: AsyncCursor[Any]) -> bool:
        await cursor.execute(LOCK, [f"relay {self._topic.name}"])
        row = await cursor.fetchone()
        return row is not None and bool(row[0])
