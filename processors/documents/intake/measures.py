"""Measures of documents for Prometheus, from indexes of what is in flight: their cost does not grow with the rest."""

from typing import Any

from psycopg import AsyncCursor

from processors.postgres.writes import PostgresWrites
from schemas.documents import telemetry
from schemas.documents.states import Lane
from schemas.process.telemetry import Telemetry

DOCUMENTS_COUNTED_MAX = 100_000
CHANGES_COUNTED_MAX = 10_000
RATE_OVER_S = 60.0

WAITING = """
    SELECT lane, count(*), sum(cost)::float8, extract(epoch FROM clock_timestamp() - min(queued_at))::float8
    FROM (SELECT lane, queued_at, cost FROM document_jobs WHERE ended_at IS NULL LIMIT %s) AS waiting
    GROUP BY lane
"""
STORED_COST = "SELECT coalesce(sum(cost), 0)::float8 FROM document_totals WHERE outcome = 'stored'"
CHANGES_WAITING = "SELECT count(*) FROM (SELECT FROM document_changes LIMIT %s) AS waiting"
DEAD_ROWS = """
    SELECT name, n_dead_tup::float8 / greatest(1, n_live_tup + n_dead_tup)
    FROM document_embedders JOIN pg_stat_user_tables ON relname = chunks AND schemaname = current_schema()
"""
REEMBEDDING = "SELECT count(*) FROM document_collections WHERE building IS NOT NULL"


class StoredRate:
    """The rate at which documents are stored, averaged over about a minute."""

    def __init__(self, *, every_s: float) -> None:
        """Expect a total every *every_s*."""
        self._every_s = every_s
        self._total: float | None = None
        self._per_s = 0.0

    def after(self, total: float) -> float:
        """Return the cost that is stored a second, now that *total* is; 0.0 before there are two totals."""
        if self._total is not None:
            part = min(1.0, self._every_s / RATE_OVER_S)
            self._per_s += part * ((total - self._total) / self._every_s - self._per_s)
        self._total = total
        return self._per_s


class DocumentMeasures:
    """The gauges of documents, measured together."""

    def __init__(self, writes: PostgresWrites, instruments: Telemetry, *, every_s: float) -> None:
        """Read by the connections of *writes* and set the gauges of *instruments*; a look comes every *every_s*."""
        self._writes = writes
        self._instruments = instruments
        self._stored_rate = StoredRate(every_s=every_s)

    async def measure(self) -> bool:
        """Set every gauge; return False, as there is no more to do. Raises Transient: Postgres is away."""
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await self._measure_lanes(cursor)
            await cursor.execute(CHANGES_WAITING, [CHANGES_COUNTED_MAX])
            self._instruments[telemetry.DOCUMENT_CHANGES_WAITING].set(await _one(cursor))
            await cursor.execute(REEMBEDDING)
            self._instruments[telemetry.RE_EMBEDDING].set(await _one(cursor))
            await cursor.execute(DEAD_ROWS)
            for embedder, ratio in await cursor.fetchall():
                self._instruments[telemetry.INDEX_DEAD_RATIO].labels(embedder).set(ratio)
        return False

    async def _measure_lanes(self, cursor: AsyncCursor[Any]) -> None:
        await cursor.execute(WAITING, [DOCUMENTS_COUNTED_MAX])
        by_lane = {lane: (count, cost, oldest_s) for lane, count, cost, oldest_s in await cursor.fetchall()}
        gauges = (telemetry.DOCUMENTS_WAITING, telemetry.DOCUMENT_COST_WAITING, telemetry.DOCUMENT_LANE_OLDEST)
        for lane in Lane:
            for gauge, value in zip(gauges, by_lane.get(lane, (0, 0.0, 0.0)), strict=True):
                self._instruments[gauge].labels(lane).set(value)
        await cursor.execute(STORED_COST)
        waiting = sum(cost for _, cost, _ in by_lane.values())
        drain_per_s = self._stored_rate.after(await _one(cursor))
        self._instruments[telemetry.DOCUMENT_DRAIN_SECONDS].set(waiting / drain_per_s if drain_per_s else 0.0)


async def _one(cursor: AsyncCursor[Any]) -> float:
    row = await cursor.fetchone()
    return 0.0 if row is None else float(row[0])
