"""
Changes of single jobs that people ask for: cancel, run again, another priority.

A job's row in a hot table (job_ready, job_delayed, job_running) is locked before its row in jobs, here and in
executors: so no two transactions wait for each other. A statement that finds a job in neither table looks again, since
the job may have moved meanwhile.
"""

from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from psycopg import AsyncCursor

from processors.runtime.errors import Transient
from schemas.jobs.states import JobAction

LOOKS_MAX = 10
CHANNEL = "tidegate_jobs"
"""Postgres notifies executors on it: of a queue that has work, or of an executor that holds a job to be cancelled."""

# A change of a job's state in the outbox, from columns of `jobs`.
CHANGED: LiteralString = """
    INSERT INTO job_changes (job_id, tenant_id, version, type, queue, status, reason, priority, attempts, duplicate_of,
        error)
    SELECT job_id, tenant_id, version, type, queue, status, reason, priority, attempts, duplicate_of, left(error, 500)
"""

# The rank of a job in its queue: the lowest goes first. A step of waiting counts as much as a level of priority.
RANK: LiteralString = "run_at - make_interval(secs => (priority - 1) * step_s)"

OWNED = "SELECT status, reason, duplicate_of IS NOT NULL FROM jobs WHERE job_id = %(job_id)s AND tenant_id = %(tenant)s"

CANCEL_WAITING = f"""
    WITH ready AS (DELETE FROM job_ready WHERE job_id = %(job_id)s AND tenant_id = %(tenant)s RETURNING job_id),
    delayed AS (DELETE FROM job_delayed WHERE job_id = %(job_id)s AND tenant_id = %(tenant)s RETURNING job_id),
    cancelled AS (
        UPDATE jobs SET status = 'cancelled', reason = NULL, version = version + 1, finished_at = clock_timestamp()
        WHERE job_id IN (SELECT job_id FROM ready UNION ALL SELECT job_id FROM delayed)
        RETURNING *
    ),
    released AS (DELETE FROM job_dedupe_keys WHERE job_id IN (SELECT job_id FROM cancelled))
    {CHANGED} FROM cancelled
"""  # noqa: S608  the parts are literals
CANCEL_RUNNING = """
    UPDATE job_running SET cancelled_by = coalesce(cancelled_by, %(by)s)
    WHERE job_id = %(job_id)s AND tenant_id = %(tenant)s
    RETURNING pg_notify('tidegate_jobs', executor_id::text)
"""

TAKE_DEDUPE_KEY = """
    INSERT INTO job_dedupe_keys (tenant_id, type, dedupe_key, job_id)
    SELECT tenant_id, type, dedupe_key, job_id FROM jobs WHERE job_id = %(job_id)s AND dedupe_key IS NOT NULL
    ON CONFLICT DO NOTHING
"""
HAS_DEDUPE_KEY = """
    SELECT dedupe_key IS NULL OR EXISTS (SELECT FROM job_dedupe_keys WHERE job_dedupe_keys.job_id = jobs.job_id)
    FROM jobs WHERE job_id = %(job_id)s
"""
RETRY = f"""
    WITH again AS (
        UPDATE jobs SET status = 'pending', reason = NULL, error_type = NULL, error = NULL, version = version + 1,
            generation = generation + 1, attempts = 0, lost = 0, snoozes = 0, run_at = clock_timestamp(),
            expires_at = NULL, finished_at = NULL, failed_at = NULL
        WHERE job_id = %(job_id)s AND tenant_id = %(tenant)s AND status IN ('failed', 'cancelled')
            AND duplicate_of IS NULL
        RETURNING *
    ),
    ready AS (
        INSERT INTO job_ready (job_id, queue, tenant_id, type, rank)
        SELECT job_id, queue, tenant_id, type, {RANK} FROM again JOIN job_queues USING (queue)
        RETURNING pg_notify('tidegate_jobs', queue)
    ),
    changed AS ({CHANGED} FROM again)
    SELECT FROM ready
"""  # noqa: S608

RERANK = """
    UPDATE job_ready
    SET rank = jobs.run_at - make_interval(secs => (%(priority)s - 1) * job_queues.step_s)
    FROM jobs, job_queues
    WHERE job_ready.job_id = %(job_id)s AND job_ready.tenant_id = %(tenant)s AND jobs.job_id = job_ready.job_id
        AND job_queues.queue = job_ready.queue
"""
REPRIORITISE = f"""
    WITH changed AS (
        UPDATE jobs SET priority = %(priority)s, version = version + 1
        WHERE job_id = %(job_id)s AND tenant_id = %(tenant)s AND status IN ('pending', 'running')
        RETURNING *
    )
    {CHANGED} FROM changed
"""  # noqa: S608

AUDIT = """
    INSERT INTO audit_log (tenant_id, by, action, target, detail) VALUES (%s, %s, %s, %s, %s::jsonb)
"""


class Verdict(NamedTuple):
    """The outcome of a change: carried out, or refused and why."""

    is_done: bool
    detail: str | None = None


async def change_job(
    cursor: AsyncCursor[Any], action: JobAction, job_id: UUID, *, tenant: str, by: str, priority: int | None
) -> Verdict:
    """
    Carry out *action*, within the caller's transaction.

    Raises:
        Transient: the job moved at each look. Try again.
    """
    asked = {"job_id": job_id, "tenant": tenant, "by": by, "priority": priority}
    await cursor.execute(OWNED, asked)
    if (row := await cursor.fetchone()) is None:
        return Verdict(is_done=False, detail="no such job")
    if action is JobAction.CANCEL:
        verdict = await _cancel(cursor, asked)
    elif action is JobAction.RETRY:
        verdict = await _retry(cursor, asked, is_alias=row[2])
    else:
        verdict = await _reprioritise(cursor, asked)
    if verdict.is_done:
        await cursor.execute(AUDIT, (tenant, by, f"job.{action}", str(job_id), None))
    return verdict


async def _cancel(cursor: AsyncCursor[Any], asked: dict[str, Any]) -> Verdict:
    for _ in range(LOOKS_MAX):
        if await _changes(cursor, CANCEL_WAITING, asked):
            return Verdict(is_done=True, detail="cancelled")
        if await _changes(cursor, CANCEL_RUNNING, asked):
            return Verdict(is_done=True, detail="the running attempt is being stopped")
        status = await _status(cursor, asked)
        if status not in ("pending", "running"):
            return Verdict(is_done=False, detail=f"the job is {status}")
    raise Transient(f"job {asked['job_id']} moves faster than it can be cancelled")


async def _retry(cursor: AsyncCursor[Any], asked: dict[str, Any], *, is_alias: bool) -> Verdict:
    if is_alias:
        return Verdict(is_done=False, detail="the job is an alias of another one")
    status = await _status(cursor, asked)
    if status not in ("failed", "cancelled"):
        return Verdict(is_done=False, detail=f"the job is {status}")
    await cursor.execute(TAKE_DEDUPE_KEY, asked)
    await cursor.execute(HAS_DEDUPE_KEY, asked)
    if (row := await cursor.fetchone()) is None or not row[0]:
        return Verdict(is_done=False, detail="another unfinished job has its dedupe key")
    if not await _changes(cursor, RETRY, asked):  # only this group retries jobs, and it waits for nobody
        raise Transient(f"job {asked['job_id']} changed while it was looked at")
    return Verdict(is_done=True, detail="pending again")


async def _reprioritise(cursor: AsyncCursor[Any], asked: dict[str, Any]) -> Verdict:
    await cursor.execute(RERANK, asked)
    if await _changes(cursor, REPRIORITISE, asked):
        return Verdict(is_done=True, detail=f"priority {asked['priority']}")
    return Verdict(is_done=False, detail=f"the job is {await _status(cursor, asked)}")


async def _status(cursor: AsyncCursor[Any], asked: dict[str, Any]) -> str:
    await cursor.execute(OWNED, asked)
    row = await cursor.fetchone()
    return "gone" if row is None else str(row[0])


async def _changes(cursor: AsyncCursor[Any], statement: LiteralString, asked: dict[str, Any]) -> bool:
    await cursor.execute(statement, asked)
    return cursor.rowcount > 0
