"""
The work that any executor does for all: jobs whose time has come, that have expired, or whose executor is gone.

Each statement takes rows that no other process works on, and sees their state itself: nothing is decided by what was
read before.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, LiteralString

import structlog
from psycopg import AsyncCursor

from processors.jobs.executor.endings import LOST_MAX
from processors.jobs.executor.lease import boot_s
from processors.jobs.moves import CHANGED, RANK
from processors.postgres.writes import PostgresWrites
from processors.runtime.errors import Transient

ROWS_MAX = 500
LOST_ROWS_MAX = 100
QUIET_S = 30.0  # after an outage, in which nobody could renew a lease
SILENT_ROWS_KEEP = timedelta(days=1)

# A job expires that was not started in time; one that has been is not cancelled between two attempts.
PROMOTE = f"""
    WITH due AS (
        DELETE FROM job_delayed
        WHERE job_id = ANY(ARRAY(
            SELECT job_id FROM job_delayed WHERE run_at <= clock_timestamp()
            ORDER BY run_at, job_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
        RETURNING job_id
    ),
    ready AS (
        INSERT INTO job_ready (job_id, queue, tenant_id, type, rank, expires_at, lost)
        SELECT job_id, queue, tenant_id, type, {RANK}, CASE WHEN runs = 0 THEN expires_at END, lost
        FROM jobs JOIN job_queues USING (queue)
        WHERE job_id = ANY(ARRAY(SELECT job_id FROM due))
        RETURNING queue
    )
    SELECT queue, count(*), pg_notify('tidegate_jobs', queue) FROM ready GROUP BY queue
"""  # noqa: S608  the parts are literals

EXPIRE = f"""
    WITH late AS (
        DELETE FROM job_ready
        WHERE job_id = ANY(ARRAY(
            SELECT job_id FROM job_ready WHERE expires_at <= clock_timestamp()
            ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
        RETURNING job_id
    ),
    expired AS (
        UPDATE jobs SET status = 'cancelled', reason = 'expired', version = version + 1,
            finished_at = clock_timestamp()
        WHERE job_id = ANY(ARRAY(SELECT job_id FROM late))
        RETURNING *
    ),
    released AS (DELETE FROM job_dedupe_keys WHERE job_id = ANY(ARRAY(SELECT job_id FROM late)))
    {CHANGED} FROM expired
"""  # noqa: S608

_GONE: LiteralString = """(
    deadline_at < clock_timestamp()
    OR NOT EXISTS (
        SELECT FROM executors
        WHERE executors.executor_id = job_running.executor_id
            AND beat_at > clock_timestamp() - make_interval(secs => %(lease_s)s)
    )
)"""
# State and attempt are in the statement that takes the job back: one that ends meanwhile is passed over.
RECLAIM = f"""
    WITH gone AS (
        DELETE FROM job_running
        WHERE job_id = ANY(ARRAY(
            SELECT job_id FROM job_running WHERE {_GONE} LIMIT %(limit)s FOR UPDATE SKIP LOCKED)) AND {_GONE}
        RETURNING job_id, attempt_id, executor_id, claimed_at, cancelled_by
    ),
    lost AS (
        UPDATE jobs
        SET lost = lost + 1, version = version + 1,
            status = CASE WHEN cancelled_by IS NOT NULL THEN 'cancelled'
                WHEN lost + 1 >= {LOST_MAX} THEN 'failed' ELSE 'pending' END,
            reason = CASE WHEN cancelled_by IS NULL THEN 'executor_lost' END,
            error_type = 'ExecutorLost', error = 'the executor that ran the job is gone',
            finished_at = CASE WHEN cancelled_by IS NOT NULL OR lost + 1 >= {LOST_MAX} THEN clock_timestamp() END,
            failed_at = CASE WHEN cancelled_by IS NULL AND lost + 1 >= {LOST_MAX} THEN clock_timestamp() END
        FROM gone
        WHERE jobs.job_id = ANY(ARRAY(SELECT job_id FROM gone)) AND gone.job_id = jobs.job_id
        RETURNING jobs.*
    ),
    ready AS (
        INSERT INTO job_ready (job_id, queue, tenant_id, type, rank, lost)
        SELECT job_id, queue, tenant_id, type, {RANK}, lost FROM lost JOIN job_queues USING (queue)
        WHERE status = 'pending'
        RETURNING pg_notify('tidegate_jobs', queue)
    ),
    released AS (
        DELETE FROM job_dedupe_keys WHERE job_id = ANY(ARRAY(SELECT job_id FROM lost WHERE status <> 'pending'))
    ),
    noted AS (
        INSERT INTO job_attempts (attempt_id, job_id, tenant_id, number, generation, executor_id, outcome, reason,
            claimed_at)
        SELECT gone.attempt_id, gone.job_id, lost.tenant_id, lost.runs, lost.generation, gone.executor_id, 'lost',
            'executor_lost', gone.claimed_at
        FROM gone JOIN lost USING (job_id)
    ),
    changed AS ({CHANGED} FROM lost)
    SELECT count(*) FROM lost
"""  # noqa: S608

STARTED = "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8"
FORGET_EXECUTORS = """
    DELETE FROM executors
    WHERE beat_at < clock_timestamp() - %(keep)s
        AND NOT EXISTS (SELECT FROM job_running WHERE job_running.executor_id = executors.executor_id)
"""
ROTATE_RESULTS = "SELECT rotate_job_results(make_interval(secs => %s))"
RESUME_QUEUES = """
    UPDATE job_queues SET paused_at = NULL, paused_until = NULL, paused_by = NULL, pause_reason = NULL
    WHERE paused_until <= clock_timestamp()
    RETURNING pg_notify('tidegate_jobs', queue)
"""

log = structlog.get_logger()


class Housekeeping:
    """The passes of one executor over what is nobody's."""

    def __init__(
        self, writes: PostgresWrites, *, lease_s: float, results_keep_s: float, lost: Callable[[int], None]
    ) -> None:
        """Work by the connections of *writes*; *lost* is given how many jobs were taken back."""
        self._writes = writes
        self._lease_s = lease_s
        self._results_keep_s = results_keep_s
        self._lost = lost
        self._failed = False
        self._quiet_until_s = float("-inf")

    def note_failure(self) -> None:
        """Note that Postgres was away: leases that ended meanwhile say nothing."""
        self._failed = True

    async def promote(self) -> bool:
        """
        Make jobs ready whose time has come, and cancel what has expired; return True if there may be more.

        Raises:
            Transient: Postgres is away.
        """
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await cursor.execute(PROMOTE, {"limit": ROWS_MAX})
            promoted = sum(row[1] for row in await cursor.fetchall())
            await cursor.execute(EXPIRE, {"limit": ROWS_MAX})
            return ROWS_MAX in (promoted, cursor.rowcount)

    async def reclaim(self) -> int:
        """
        Take back the jobs of executors that are gone; return how many. None within a time after an outage.

        Raises:
            Transient: Postgres is away.
        """
        try:
            async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
                return await self._reclaim(cursor)
        except Transient:
            self.note_failure()
            raise

    async def tidy(self) -> None:
        """
        Make and drop partitions of results, end pauses, forget executors that are long gone.

        Raises:
            Transient: Postgres is away, or a partition is in use: dropped by a later pass.
        """
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await cursor.execute(RESUME_QUEUES)
            await cursor.execute(FORGET_EXECUTORS, {"keep": SILENT_ROWS_KEEP})
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await cursor.execute(ROTATE_RESULTS, [self._results_keep_s])

    async def _reclaim(self, cursor: AsyncCursor[Any]) -> int:
        await cursor.execute(STARTED)
        row = await cursor.fetchone()
        now_s = boot_s()
        if self._failed:
            self._failed = False
            self._quiet_until_s = now_s + self._quiet_s
        if now_s < self._quiet_until_s or row is None or row[0] < self._quiet_s:
            return 0
        await cursor.execute(RECLAIM, {"lease_s": self._lease_s, "limit": LOST_ROWS_MAX})
        found = await cursor.fetchone()
        count = 0 if found is None else int(found[0])
        if count:
            log.warning("took back jobs of executors that are gone", count=count)
            self._lost(count)
        return count

    @property
    def _quiet_s(self) -> float:
        return min(QUIET_S, self._lease_s)
