"""
Ends of attempts: what becomes of the job, stored some at a time.

An end counts only where the job is still this attempt's, which the statement itself sees. Those that Postgres does not
take now wait here, bounded by what this executor holds: it claims nothing while Postgres is away.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, LiteralString

import structlog

from processors.jobs.executor.claims import Claimed
from processors.jobs.moves import CHANGED, RANK
from processors.postgres.writes import PostgresWrites
from processors.runtime.backoff import delay_s
from processors.runtime.errors import Transient
from processors.runtime.failpoints import Failpoint, reach
from schemas.errors import Poison
from schemas.jobs.states import AttemptOutcome, EndReason, JobStatus
from schemas.jobs.types import TaskType

TOGETHER_MAX = 64
GATHERED_WITHIN_S = 0.01
LOST_MAX = 3  # executors that a job may take with it, or lose by chance
SNOOZES_MAX = 500
ERROR_SHOWN_CHARACTERS_MAX = 4096

# The rows of jobs are found by an array: a generic plan of a join would read all of `jobs`.
END: LiteralString = f"""
    WITH ended AS (
        SELECT * FROM unnest(%(jobs)s::uuid[], %(attempts)s::uuid[], %(outcomes)s::text[], %(reasons)s::text[],
            %(error_types)s::text[], %(errors)s::text[], %(tracebacks)s::text[], %(logs)s::text[], %(cpus)s::real[],
            %(peaks)s::bigint[], %(starts)s::timestamptz[], %(statuses)s::text[], %(delays)s::double precision[],
            %(results)s::text[], %(summaries)s::text[], %(failed)s::smallint[], %(lost)s::smallint[],
            %(snoozed)s::smallint[], %(numbers)s::integer[], %(executors)s::uuid[])
            AS ended (job_id, attempt_id, outcome, reason, error_type, error, traceback, log, cpu_s, peak_bytes,
                started_at, next_status, delay_s, result, summary, failed, lost, snoozed, number, executor_id)
    ),
    ours AS (
        DELETE FROM job_running USING ended
        WHERE job_running.job_id = ended.job_id AND job_running.attempt_id = ended.attempt_id
        RETURNING job_running.job_id, job_running.attempt_id, job_running.claimed_at, job_running.cancelled_by
    ),
    done AS (
        UPDATE jobs
        SET status = next.status,
            reason = CASE WHEN next.status = 'cancelled' AND ended.reason IS DISTINCT FROM 'expired' THEN NULL
                ELSE ended.reason END,
            error_type = ended.error_type, error = ended.error, summary = coalesce(ended.summary::jsonb, jobs.summary),
            attempts = jobs.attempts + ended.failed, lost = jobs.lost + ended.lost,
            snoozes = jobs.snoozes + ended.snoozed, version = version + 1,
            run_at = CASE WHEN next.status = 'pending' AND ended.delay_s > 0
                THEN clock_timestamp() + make_interval(secs => ended.delay_s) ELSE jobs.run_at END,
            finished_at = CASE WHEN next.status <> 'pending' THEN clock_timestamp() END,
            failed_at = CASE WHEN next.status = 'failed' THEN clock_timestamp() END
        FROM ended JOIN ours USING (job_id),
            LATERAL (SELECT CASE WHEN ended.next_status = 'pending' AND ours.cancelled_by IS NOT NULL
                THEN 'cancelled' ELSE ended.next_status END AS status) AS next
        WHERE jobs.job_id = ANY(ARRAY(SELECT job_id FROM ours)) AND ended.job_id = jobs.job_id
        RETURNING jobs.*, ended.delay_s
    ),
    ready AS (
        INSERT INTO job_ready (job_id, queue, tenant_id, type, rank, lost)
        SELECT job_id, queue, tenant_id, type, {RANK}, lost FROM done JOIN job_queues USING (queue)
        WHERE status = 'pending' AND delay_s <= 0
        RETURNING pg_notify('tidegate_jobs', queue)
    ),
    delayed AS (
        INSERT INTO job_delayed (job_id, queue, tenant_id, run_at)
        SELECT job_id, queue, tenant_id, run_at FROM done WHERE status = 'pending' AND delay_s > 0
    ),
    released AS (
        DELETE FROM job_dedupe_keys WHERE job_id = ANY(ARRAY(SELECT job_id FROM done WHERE status <> 'pending'))
    ),
    noted AS (
        INSERT INTO job_attempts (attempt_id, job_id, tenant_id, number, generation, executor_id, outcome, reason,
            error_type, error, traceback, log, cpu_s, peak_bytes, claimed_at, started_at)
        SELECT ours.attempt_id, ours.job_id, done.tenant_id, ended.number, done.generation, ended.executor_id,
            ended.outcome, ended.reason, ended.error_type, ended.error, ended.traceback, ended.log, ended.cpu_s,
            ended.peak_bytes, ours.claimed_at, ended.started_at
        FROM ended JOIN ours USING (job_id) JOIN done USING (job_id)
    ),
    kept AS (
        INSERT INTO job_results (job_id, attempt_id, result)
        SELECT ours.job_id, ours.attempt_id, ended.result::json FROM ended JOIN ours USING (job_id)
        WHERE ended.result IS NOT NULL
    ),
    changed AS ({CHANGED} FROM done)
    SELECT count(*) FROM ours
"""  # noqa: S608  the parts are literals


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnd:
    """The end of one attempt, and the next state of its job."""

    claimed: Claimed
    outcome: AttemptOutcome
    next_status: JobStatus
    delay_s: float = 0.0  # of a job that waits for another attempt
    reason: EndReason | None = None
    error_type: str | None = None
    error: str | None = None
    traceback: str | None = None
    log: str | None = None
    cpu_s: float | None = None
    peak_bytes: int | None = None
    started_at: datetime | None = None
    result: str | None = None  # JSON
    summary: str | None = None  # JSON


def failed(
    claimed: Claimed, declared: TaskType | None, *, is_final: bool = False, after_s: float | None = None, **what: Any
) -> AttemptEnd:
    """Return the end of an attempt that failed: the job waits for the next one, unless this was the last."""
    is_last = is_final or claimed.failed_attempts + 1 >= claimed.max_attempts
    pause_s = 0.0
    if not is_last:
        pause_s = retry_delay_s(claimed, declared, jitter=random.random()) if after_s is None else after_s  # noqa: S311
    return AttemptEnd(
        claimed=claimed,
        outcome=AttemptOutcome.FAILED,
        next_status=JobStatus.FAILED if is_last else JobStatus.PENDING,
        delay_s=pause_s,
        **({"reason": EndReason.ERROR} | what),
    )


def lost(claimed: Claimed, **what: Any) -> AttemptEnd:
    """Return the end of an attempt that this executor had to give up, for a cause outside of the task."""
    is_last = claimed.lost + 1 >= LOST_MAX
    return AttemptEnd(
        claimed=claimed,
        outcome=AttemptOutcome.LOST,
        next_status=JobStatus.FAILED if is_last else JobStatus.PENDING,
        **({"reason": EndReason.EXECUTOR_LOST} | what),
    )


def not_started(claimed: Claimed) -> AttemptEnd:
    """Return the end of an attempt that no child was given."""
    return AttemptEnd(claimed=claimed, outcome=AttemptOutcome.INTERRUPTED, next_status=JobStatus.PENDING)


def snoozed(claimed: Claimed, *, after_s: float, **what: Any) -> AttemptEnd:
    """Return the end of an attempt that asked to be run later."""
    if claimed.snoozes + 1 > SNOOZES_MAX:
        more = {"error_type": "Snooze", "error": f"the task was snoozed {SNOOZES_MAX} times"}
        return failed(claimed, None, is_final=True, **(what | more))
    return AttemptEnd(
        claimed=claimed,
        outcome=AttemptOutcome.SNOOZED,
        next_status=JobStatus.PENDING,
        delay_s=after_s,
        **what,
    )


def retry_delay_s(claimed: Claimed, declared: TaskType | None, *, jitter: float) -> float:
    """Return the seconds to the next attempt: doubled for each failure, bounded, with full *jitter* in [0, 1)."""
    base_s, cap_s = (1.0, 60.0) if declared is None else (declared.retry_base_s, declared.retry_cap_s)
    return min(cap_s, base_s * 2.0 ** min(claimed.failed_attempts, 30)) * jitter


class EndingWriter:
    """The ends of this executor's attempts on their way to Postgres; `stored` is set whenever some are there."""

    def __init__(
        self,
        writes: PostgresWrites,
        *,
        executor_id: Any,
        stale: Callable[[int], None],
        failures: Callable[[str], None],
    ) -> None:
        """Store by the connections of *writes*; *stale* is given how many were no longer ours."""
        self._writes = writes
        self._executor_id = executor_id
        self._stale = stale
        self._failures = failures
        self._waiting: list[AttemptEnd] = []
        self._under_way: Sequence[AttemptEnd] = ()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self.stored = asyncio.Event()
        self._log = structlog.get_logger()

    @property
    def pending(self) -> Sequence[AttemptEnd]:
        """Return what is not stored yet."""
        return [*self._under_way, *self._waiting]

    def put(self, ending: AttemptEnd) -> None:
        """Store *ending* soon."""
        self._waiting.append(ending)
        self._arrived.set()
        if len(self._waiting) >= TOGETHER_MAX:
            self._full.set()

    async def run(self) -> None:
        """Store what comes until the task is cancelled."""
        attempts = 0
        while True:
            await self._arrived.wait()
            if len(self._waiting) < TOGETHER_MAX:
                try:
                    async with asyncio.timeout(GATHERED_WITHIN_S):
                        await self._full.wait()
                except TimeoutError:
                    pass
            self._under_way, self._waiting = self._waiting[:TOGETHER_MAX], self._waiting[TOGETHER_MAX:]
            while self._under_way:
                try:
                    await self._store(self._under_way)
                    attempts = 0
                    self._under_way = ()
                    self.stored.set()
                except Transient as reason:
                    attempts += 1
                    if attempts == 1:
                        self._log.warning("ends of attempts wait for Postgres", error=str(reason))
                        self._failures(str(reason))
                    await asyncio.sleep(delay_s(attempts, jitter=random.random()))  # noqa: S311  # spreads load
            self._full.clear()
            if not self._waiting:
                self._arrived.clear()

    async def _store(self, endings: Sequence[AttemptEnd]) -> None:
        reach(Failpoint.BEFORE_FINISH)
        try:
            await self._write(endings)
        except Poison as poison:
            # One of them holds what Postgres takes in no column: it must not keep the others.
            if len(endings) > 1:
                for each in endings:
                    await self._store([each])
                return
            self._log.warning("an end cannot be stored as it is", error=poison.detail)
            await self._write([_storable(endings[0], poison.detail)])
        reach(Failpoint.AFTER_FINISH)

    async def _write(self, endings: Sequence[AttemptEnd]) -> None:
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await cursor.execute(END, _columns(endings, self._executor_id))
            row = await cursor.fetchone()
        stored = 0 if row is None else row[0]
        if stored < len(endings):
            self._stale(len(endings) - stored)


def _storable(ending: AttemptEnd, detail: str) -> AttemptEnd:
    return replace(
        ending,
        outcome=AttemptOutcome.FAILED,
        next_status=JobStatus.FAILED,
        reason=EndReason.ERROR,
        error_type="NotStorable",
        error=f"what the task left cannot be stored: {detail}"[:ERROR_SHOWN_CHARACTERS_MAX],
        traceback=None,
        log=None,
        result=None,
        summary=None,
    )


def _columns(endings: Sequence[AttemptEnd], executor_id: object) -> dict[str, Sequence[object]]:
    outcomes = [each.outcome for each in endings]
    return {
        "jobs": [each.claimed.job_id for each in endings],
        "attempts": [each.claimed.attempt_id for each in endings],
        "outcomes": outcomes,
        "reasons": [each.reason for each in endings],
        "error_types": [each.error_type for each in endings],
        "errors": [each.error for each in endings],
        "tracebacks": [each.traceback for each in endings],
        "logs": [each.log for each in endings],
        "cpus": [each.cpu_s for each in endings],
        "peaks": [each.peak_bytes for each in endings],
        "starts": [each.started_at for each in endings],
        "statuses": [each.next_status for each in endings],
        "delays": [each.delay_s for each in endings],
        "results": [each.result for each in endings],
        "summaries": [each.summary for each in endings],
        "failed": [int(outcome is AttemptOutcome.FAILED) for outcome in outcomes],
        "lost": [int(outcome is AttemptOutcome.LOST) for outcome in outcomes],
        "snoozed": [int(outcome is AttemptOutcome.SNOOZED) for outcome in outcomes],
        "numbers": [each.claimed.number for each in endings],
        "executors": [executor_id] * len(endings),
    }
