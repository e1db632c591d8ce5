"""Measures of jobs for Prometheus, from the narrow tables: their cost does not grow with the jobs that are stored."""

from typing import Any

from psycopg import AsyncCursor

from processors.postgres.writes import PostgresWrites
from schemas.jobs import telemetry
from schemas.jobs.waiting import HEADS, LEASE_S
from schemas.process.telemetry import Telemetry

CHANGES_COUNTED_MAX = 10_000
DEPTH_COUNTED_MAX = 100_000
HOT_TABLES = ("job_ready", "job_delayed", "job_running", "job_changes", "job_reports", "executors")

DEPTHS = """
    SELECT queue,
        (SELECT count(*) FROM (SELECT FROM job_ready WHERE job_ready.queue = job_queues.queue AND lost = 0
            LIMIT %(limit)s) AS counted)
            + (SELECT count(*) FROM job_ready WHERE job_ready.queue = job_queues.queue AND lost > 0),
        (SELECT count(*) FROM (SELECT FROM job_delayed WHERE job_delayed.queue = job_queues.queue LIMIT %(limit)s)
            AS counted),
        (SELECT count(*) FROM job_running WHERE job_running.queue = job_queues.queue),
        (SELECT count(*) FROM executors
         WHERE job_queues.queue = ANY(executors.queues) AND NOT is_draining
            AND beat_at > clock_timestamp() - make_interval(secs => %(lease_s)s))
    FROM job_queues
"""
OLDEST = f"""
    {HEADS}
    SELECT queue, extract(epoch FROM clock_timestamp() - min(ready_at))::float8 FROM heads GROUP BY queue
"""  # noqa: S608  the parts are literals
OLDEST_SNAPSHOT = """
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8
    FROM pg_stat_activity
    WHERE backend_xmin IS NOT NULL AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
DEAD_ROWS = "SELECT relname, n_dead_tup FROM pg_stat_user_tables WHERE relname = ANY(%s)"
CHANGES_WAITING = "SELECT count(*) FROM (SELECT FROM job_changes LIMIT %s) AS waiting"


class Measures:
    """The gauges of jobs, measured together."""

    def __init__(self, writes: PostgresWrites, instruments: Telemetry) -> None:
        """Read by the connections of *writes* and set the gauges of *instruments*."""
        self._writes = writes
        self._instruments = instruments

    async def measure(self) -> bool:
        """Set every gauge; return False, as there is no more to do. Raises Transient: Postgres is away."""
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await self._measure(cursor)
        return False

    async def _measure(self, cursor: AsyncCursor[Any]) -> None:
        await cursor.execute(DEPTHS, {"limit": DEPTH_COUNTED_MAX, "lease_s": LEASE_S})
        depths = await cursor.fetchall()
        await cursor.execute(OLDEST)
        oldest = dict(await cursor.fetchall())
        gauges = (telemetry.JOBS_READY, telemetry.JOBS_DELAYED, telemetry.JOBS_RUNNING, telemetry.JOB_EXECUTORS)
        for queue, *counts in depths:
            for gauge, count in zip(gauges, counts, strict=True):
                self._instruments[gauge].labels(queue).set(count)
            self._instruments[telemetry.JOBS_OLDEST_READY].labels(queue).set(oldest.get(queue, 0.0))
        await cursor.execute(OLDEST_SNAPSHOT)
        self._instruments[telemetry.JOB_XMIN_AGE].set(await _one(cursor))
        await cursor.execute(DEAD_ROWS, [list(HOT_TABLES)])
        for table, count in await cursor.fetchall():
            self._instruments[telemetry.JOB_DEAD_ROWS].labels(table).set(count)
        await cursor.execute(CHANGES_WAITING, [CHANGES_COUNTED_MAX])
        self._instruments[telemetry.JOB_CHANGES_WAITING].set(await _one(cursor))


async def _one(cursor: AsyncCursor[Any]) -> float:
    row = await cursor.fetchone()
    return 0.0 if row is None else float(row[0])
