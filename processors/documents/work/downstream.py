"""
The bound on what is embedded and not stored: a few seconds of work.

Beyond it no document is begun. What waits there has passed the lanes, so a longer queue would make them meaningless.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from processors.postgres.writes import PostgresWrites

BOUND_S = 5.0
COST_MIN = 400_000  # characters: what is let through however slow the last seconds were
RATE_OVER_S = 5.0

# Read from an index that has these rows alone.
UNSTORED = """
    SELECT coalesce(sum(cost), 0)::float8 FROM document_jobs WHERE ended_at IS NULL AND embedded_at IS NOT NULL
"""


class Downstream:
    """The state between the stages, as it was a moment ago."""

    def __init__(self, writes: PostgresWrites, *, clock_s: Callable[[], float] = monotonic) -> None:
        """Look by the connections of *writes*."""
        self._writes = writes
        self._clock_s = clock_s
        self._room = asyncio.Event()
        self._room.set()
        self._passed_cost = 0
        self._cost_per_s = 0.0
        self._looked_at_s: float | None = None

    def passed(self, cost: int) -> None:
        """Count a document that went downstream."""
        self._passed_cost += cost

    async def room(self) -> None:
        """Wait until there is room for one more document."""
        await self._room.wait()

    async def look(self) -> bool:
        """Look at what lies there; return False, as there is no more to do. Raises Transient: Postgres is away."""
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await cursor.execute(UNSTORED)
            row = await cursor.fetchone()
        self._average()
        unstored = 0.0 if row is None else float(row[0])
        if unstored <= max(COST_MIN, BOUND_S * self._cost_per_s):
            self._room.set()
        else:
            self._room.clear()
        return False

    def _average(self) -> None:
        now_s = self._clock_s()
        if self._looked_at_s is not None and now_s > self._looked_at_s:
            elapsed_s = now_s - self._looked_at_s
            part = min(1.0, elapsed_s / RATE_OVER_S)
            self._cost_per_s += part * (self._passed_cost / elapsed_s - self._cost_per_s)
        self._passed_cost, self._looked_at_s = 0, now_s
