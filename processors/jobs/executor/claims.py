"""
Claims: rows of job_ready become rows of job_running, some at a time.

Tenants are chosen first, in turn, and jobs claimed inside the prefix of each in the index: neither a pause nor a limit
nor a large tenant ever makes a claim walk a backlog. A job whose executor was lost is a suspect: an executor holds one
of those at a time, so that a job that kills executors takes no other suspect with it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from psycopg import AsyncCursor

from processors.jobs.moves import CHANGED, RANK
from processors.postgres.writes import PostgresWrites
from schemas.jobs.types import TaskTypes

TENANTS_MAX = 32  # that a claim looks at
DEADLINE_MARGIN_S = 60.0  # behind the hard limit: the executor's own timer has failed by then
UNKNOWN_DEADLINE_S = 60.0
CLAIMED_MAX = 64  # at once

# Queues with work for this executor; a pause that has ended does not count. Each index covers a part of job_ready: the
# statement looks into both, since without an index it would scan a paused backlog.
OPEN_QUEUES = """
    SELECT queue, max_running, max_running_per_tenant, EXISTS (
        SELECT FROM job_ready WHERE job_ready.queue = job_queues.queue AND lost > 0
    )
    FROM job_queues
    WHERE queue = ANY(%(queues)s) AND (paused_at IS NULL OR paused_until <= clock_timestamp())
        AND (EXISTS (SELECT FROM job_ready WHERE job_ready.queue = job_queues.queue AND lost = 0)
            OR EXISTS (SELECT FROM job_ready WHERE job_ready.queue = job_queues.queue AND lost > 0))
"""
# One look into the index for each tenant, however many jobs it has.
TENANTS = """
    WITH RECURSIVE waiting AS (
        (SELECT tenant_id FROM job_ready
         WHERE queue = %(queue)s AND lost = 0 AND tenant_id > %(after)s ORDER BY tenant_id LIMIT 1)
      UNION ALL
        SELECT (SELECT tenant_id FROM job_ready
                WHERE queue = %(queue)s AND lost = 0 AND tenant_id > waiting.tenant_id ORDER BY tenant_id LIMIT 1)
        FROM waiting
        WHERE waiting.tenant_id IS NOT NULL
    )
    SELECT tenant_id FROM waiting
    WHERE tenant_id IS NOT NULL AND NOT tenant_id = ANY(%(full_tenants)s) LIMIT %(limit)s
"""
LOCK_QUEUE = "SELECT pg_advisory_xact_lock(hashtext('tidegate job queue'), hashtext(%(queue)s))"
RUNNING = "SELECT tenant_id, count(*) FROM job_running WHERE queue = %(queue)s GROUP BY tenant_id"

# Outer statements name jobs by an array: a generic plan of a join would read all of `jobs`.
_CLAIM: LiteralString = f"""
    taken AS (
        DELETE FROM job_ready WHERE job_id = ANY(ARRAY(SELECT job_id FROM picked))
        RETURNING job_id, queue, tenant_id, type, rank, ready_at
    ),
    held AS (
        INSERT INTO job_running (job_id, attempt_id, executor_id, queue, tenant_id, type, deadline_at)
        SELECT job_id, gen_random_uuid(), %(executor_id)s, queue, tenant_id, type,
            clock_timestamp() + make_interval(secs => coalesce(
                (SELECT seconds FROM unnest(%(types)s::text[], %(deadlines)s::double precision[])
                     AS deadlines (type, seconds) WHERE deadlines.type = taken.type),
                {UNKNOWN_DEADLINE_S}))
        FROM taken
        RETURNING job_id, attempt_id
    ),
    claimed AS (
        UPDATE jobs SET status = 'running', version = version + 1, runs = runs + 1, started_at = clock_timestamp()
        WHERE job_id = ANY(ARRAY(SELECT job_id FROM taken))
        RETURNING *
    ),
    changed AS ({CHANGED} FROM claimed)
    SELECT claimed.job_id, held.attempt_id, claimed.queue, claimed.tenant_id, claimed.type,
        claimed.parameters::text, claimed.user_id, claimed.runs, claimed.attempts, claimed.max_attempts,
        claimed.lost, claimed.snoozes, claimed.timeout_s, claimed.run_at, taken.ready_at, claimed.traceparent
    FROM claimed JOIN held USING (job_id) JOIN taken USING (job_id)
    ORDER BY taken.rank, job_id
"""  # noqa: S608  the parts are literals
CLAIM = f"""
    WITH wanted AS (SELECT * FROM unnest(%(tenants)s::text[], %(quotas)s::integer[]) AS wanted (tenant_id, quota)),
    picked AS MATERIALIZED (
        SELECT head.job_id FROM wanted, LATERAL (
            SELECT job_id FROM job_ready
            WHERE queue = %(queue)s AND tenant_id = wanted.tenant_id AND lost = 0
                AND (expires_at IS NULL OR expires_at > clock_timestamp())
            ORDER BY rank, job_id
            LIMIT wanted.quota
            FOR UPDATE SKIP LOCKED
        ) AS head
    ),
    {_CLAIM}
"""  # noqa: S608  the parts are literals
CLAIM_SUSPECT = f"""
    WITH picked AS MATERIALIZED (
        SELECT job_id FROM job_ready
        WHERE queue = %(queue)s AND lost > 0 AND (expires_at IS NULL OR expires_at > clock_timestamp())
            AND NOT tenant_id = ANY(%(full_tenants)s)
        ORDER BY rank, job_id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ),
    {_CLAIM}
"""  # noqa: S608

# Never started: as if they had not been claimed.
GIVE_BACK = f"""
    WITH returned AS (
        DELETE FROM job_running
        USING unnest(%(jobs)s::uuid[], %(attempts)s::uuid[]) AS given (job_id, attempt_id)
        WHERE job_running.job_id = given.job_id AND job_running.attempt_id = given.attempt_id
        RETURNING job_running.job_id, cancelled_by
    ),
    waiting AS (
        UPDATE jobs SET version = version + 1, runs = runs - 1,
            status = CASE WHEN cancelled_by IS NULL THEN 'pending' ELSE 'cancelled' END,
            finished_at = CASE WHEN cancelled_by IS NOT NULL THEN clock_timestamp() END
        FROM returned
        WHERE jobs.job_id = ANY(ARRAY(SELECT job_id FROM returned)) AND returned.job_id = jobs.job_id
        RETURNING jobs.*
    ),
    delayed AS (
        INSERT INTO job_delayed (job_id, queue, tenant_id, run_at)
        SELECT job_id, queue, tenant_id, clock_timestamp() + make_interval(secs => %(delay_s)s) FROM waiting
        WHERE status = 'pending' AND %(delay_s)s > 0
    ),
    ready AS (
        INSERT INTO job_ready (job_id, queue, tenant_id, type, rank, expires_at, lost)
        SELECT job_id, queue, tenant_id, type, {RANK}, CASE WHEN runs = 0 THEN expires_at END, lost
        FROM waiting JOIN job_queues USING (queue)
        WHERE status = 'pending' AND %(delay_s)s <= 0
        RETURNING pg_notify('tidegate_jobs', queue)
    ),
    released AS (
        DELETE FROM job_dedupe_keys WHERE job_id IN (SELECT job_id FROM waiting WHERE status = 'cancelled')
    ),
    changed AS ({CHANGED} FROM waiting)
    SELECT FROM ready
"""  # noqa: S608


class Claimed(NamedTuple):
    """A job that this executor holds, by an attempt."""

    job_id: UUID
    attempt_id: UUID
    queue: str
    tenant: str
    type: str
    parameters: str
    user_id: str | None
    number: int
    failed_attempts: int
    max_attempts: int
    lost: int
    snoozes: int
    timeout_s: float | None
    run_at: datetime  # from when it could run, or run again
    ready_at: datetime
    traceparent: str | None

    @property
    def is_suspect(self) -> bool:
        """Return True if an executor was lost while it held this job."""
        return self.lost > 0


class _OpenQueue(NamedTuple):
    """A queue with work, and its limits."""

    queue: str
    max_running: int | None
    max_per_tenant: int | None
    has_suspects: bool

    @property
    def is_limited(self) -> bool:
        """Return True if running jobs have to be counted."""
        return self.max_running is not None or self.max_per_tenant is not None


class Claims:
    """The claims of one executor."""

    def __init__(self, writes: PostgresWrites, *, executor_id: UUID, queues: Sequence[str], types: TaskTypes) -> None:
        """Claim jobs of *queues* for *executor_id*, by the connections of *writes*."""
        self._writes = writes
        self._queues = queues
        self.meets_limits = False  # the last claim counted running jobs: the end of one may let another run
        self._turn = 0  # of the queue that goes first
        self._last_tenants: dict[str, str] = {}  # by queue: the last tenant that had its turn
        self._parameters: Mapping[str, Any] = {
            "executor_id": executor_id,
            "types": list(types),
            "deadlines": [each.hard_limit_s + DEADLINE_MARGIN_S for each in types.values()],
        }

    async def claim(self, count: int, *, takes_suspect: bool) -> Sequence[Claimed]:
        """
        Return up to *count* jobs, fewer where that is all there is; with *takes_suspect* one of them may be a suspect.

        Raises:
            Transient: Postgres is away. A claim that was committed all the same ends with this executor's lease.
        """
        claimed: list[Claimed] = []
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await cursor.execute(OPEN_QUEUES, {"queues": self._queues})
            found = [_OpenQueue(*row) for row in await cursor.fetchall()]
            # In one order, else two executors may wait for each other.
            limited = sorted(each for each in found if each.is_limited)
            self.meets_limits = bool(limited)
            for queue in limited:
                await cursor.execute(LOCK_QUEUE, {"queue": queue.queue})
            for queue in self._in_turn(found):
                if (wanted := min(count, CLAIMED_MAX) - len(claimed)) <= 0:
                    break
                claimed += await self._claim(cursor, queue, wanted, takes_suspect=takes_suspect)
                takes_suspect = takes_suspect and not any(each.is_suspect for each in claimed)
        return claimed

    async def give_back(self, jobs: Sequence[Claimed], *, delay_s: float = 0.0) -> None:
        """
        Return jobs that were not started to their queues.

        Raises:
            Transient: Postgres is away.
        """
        async with self._writes.transaction() as (connection, _):
            await connection.execute(
                GIVE_BACK,
                {
                    "jobs": [each.job_id for each in jobs],
                    "attempts": [each.attempt_id for each in jobs],
                    "delay_s": delay_s,
                },
            )

    def _in_turn(self, found: Sequence[_OpenQueue]) -> Sequence[_OpenQueue]:
        """Return queues with another one first each time, so that none starves where slots are few."""
        if not found:
            return found
        self._turn = (self._turn + 1) % len(found)
        ordered = sorted(found)
        return [*ordered[self._turn :], *ordered[: self._turn]]

    async def _claim(
        self, cursor: AsyncCursor[Any], queue: _OpenQueue, wanted: int, *, takes_suspect: bool
    ) -> Sequence[Claimed]:
        asked: dict[str, Any] = {**self._parameters, "queue": queue.queue}
        running: dict[str, int] = {}
        if queue.is_limited:
            await cursor.execute(RUNNING, asked)
            running = dict(await cursor.fetchall())
        if queue.max_running is not None:
            wanted = min(wanted, queue.max_running - sum(running.values()))
        claimed: list[Claimed] = []
        if queue.has_suspects and takes_suspect and wanted > 0:
            full = _full_tenants(running, queue.max_per_tenant)
            claimed += await _claimed(cursor, CLAIM_SUSPECT, asked | {"full_tenants": full})
            for each in claimed:
                running[each.tenant] = running.get(each.tenant, 0) + 1
        tenants: list[str] = []
        if wanted > len(claimed):
            full = _full_tenants(running, queue.max_per_tenant)
            tenants = list(await self._tenants(cursor, queue.queue, full))
        while tenants and (left := wanted - len(claimed)) > 0:
            quotas = _quotas(tenants, left, running, queue.max_per_tenant)
            if not quotas:
                break
            found = await _claimed(cursor, CLAIM, asked | {"tenants": list(quotas), "quotas": list(quotas.values())})
            claimed += found
            self._last_tenants[queue.queue] = list(quotas)[-1]
            taken = {tenant: sum(each.tenant == tenant for each in found) for tenant in quotas}
            for tenant, count in taken.items():
                running[tenant] = running.get(tenant, 0) + count
            # Who had fewer than its share has none left; who was not asked yet goes first.
            had_all = {tenant for tenant, quota in quotas.items() if taken[tenant] < quota}
            asked_now = [tenant for tenant in quotas if tenant not in had_all]
            tenants = [tenant for tenant in tenants if tenant not in quotas] + asked_now
        return claimed

    async def _tenants(self, cursor: AsyncCursor[Any], queue: str, full: Sequence[str]) -> Sequence[str]:
        """Return the tenants with work in *queue* but *full*, the one after the last that had its turn first."""
        last = self._last_tenants.get(queue, "")
        found: list[str] = []
        for after in (last, ""):
            await cursor.execute(TENANTS, {"queue": queue, "after": after, "limit": TENANTS_MAX, "full_tenants": full})
            found += [row[0] for row in await cursor.fetchall() if row[0] not in found]
            if not last or len(found) >= TENANTS_MAX:
                break
        return found[:TENANTS_MAX]


def _full_tenants(running: Mapping[str, int], max_per_tenant: int | None) -> list[str]:
    """Return the tenants that may have no more jobs running."""
    return [tenant for tenant, count in running.items() if max_per_tenant is not None and count >= max_per_tenant]


def _quotas(
    tenants: Sequence[str], left: int, running: Mapping[str, int], max_per_tenant: int | None
) -> dict[str, int]:
    """Return how many of *left* jobs each tenant may have: alike, and within its limit."""
    allowed = {
        tenant: left if max_per_tenant is None else max_per_tenant - running.get(tenant, 0) for tenant in tenants
    }
    open_tenants = [tenant for tenant, most in allowed.items() if most > 0][:left]
    if not open_tenants:
        return {}
    share, extra = divmod(left, len(open_tenants))
    return {tenant: min(share + (number < extra), allowed[tenant]) for number, tenant in enumerate(open_tenants)}


async def _claimed(cursor: AsyncCursor[Any], statement: LiteralString, asked: Mapping[str, Any]) -> list[Claimed]:
    await cursor.execute(statement, asked)
    return [Claimed(*row) for row in await cursor.fetchall()]
