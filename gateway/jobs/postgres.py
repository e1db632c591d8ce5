"""
`JobStore` on Postgres. Every statement names the tenant, but for those of queues and executors, which all share.

Each reads a bounded number of rows by an index, whatever there is: finished jobs by the million, a paused backlog.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString

import msgspec

from gateway.jobs.store import (
    ATTEMPTS_SHOWN_MAX,
    COUNTED_MAX,
    LOG_TAIL_CHARACTERS,
    LOOKED_AT_MAX,
    POSITION_MAX,
    JobBrief,
    JobListing,
    JobPlace,
    Total,
)
from gateway.jobs.views import (
    AttemptView,
    ExecutorView,
    JobLogView,
    JobProgressView,
    JobSummary,
    JobView,
    OperationView,
    QueueView,
    ScheduleView,
)
from gateway.kafka.effect import Effect, command_effect
from gateway.postgres.pool import PostgresReads
from schemas.jobs.cron import ScheduleDefinition, next_times
from schemas.jobs.filters import JobFilter
from schemas.jobs.states import JobStatus
from schemas.jobs.waiting import LEASE_S
from schemas.kafka.places import RecordPlace

EXECUTORS_SHOWN_S = 600
EXECUTORS_SHOWN_MAX = 200
TENANTS_LOOKED_AT_MAX = 1_000  # for the age of what goes first in a queue

# The first and the last place of any list: a bound that is always there keeps its index condition in a generic plan.
_FIRST_ID = "00000000-0000-0000-0000-000000000000"
_LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"

_COLUMNS: LiteralString = """
    job.job_id::text AS task_id, job.type, job.queue, job.status, job.reason, job.priority, job.metadata::text,
    job.tags, job.user_id, job.dedupe_key, job.max_attempts, job.timeout_s, job.run_at, job.expires_at,
    job.generation, job.attempts, job.runs, job.lost, job.snoozes, job.version, job.error_type, job.error,
    job.summary::text, job.schedule_id::text, job.submitted_by, job.created_at, job.started_at, job.finished_at,
    job.duplicate_of::text, running.attempt_id IS NOT NULL AS has_progress, running.fraction, running.message,
    running.cancelled_by IS NOT NULL AS cancel_requested
"""
_BRIEF: LiteralString = """
    job.job_id::text, job.type, job.queue, job.status, job.priority, job.duplicate_of::text, job.content_sha256,
    job.created_at
"""
_ADMITTED: LiteralString = """
    (%(status)s::text IS NULL OR status = %(status)s)
    AND (%(type)s::text IS NULL OR type = %(type)s)
    AND (%(queue)s::text IS NULL OR queue = %(queue)s)
    AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
    AND (%(tag)s::text IS NULL OR %(tag)s = ANY (tags))
    AND (%(reason)s::text IS NULL OR reason = %(reason)s)
    AND (%(dedupe_key)s::text IS NULL OR dedupe_key = %(dedupe_key)s)
    AND (%(metadata)s::jsonb = '{}' OR metadata @> %(metadata)s::jsonb)
"""
_LOOKED_AT: LiteralString = """
    FROM jobs
    WHERE tenant_id = %(tenant)s AND created_at >= %(from)s::timestamptz AND created_at < %(before)s::timestamptz
      AND (created_at, job_id) < (%(after)s::timestamptz, %(after_id)s::uuid)
    ORDER BY created_at DESC, job_id DESC
"""

JOB = f"""
    SELECT {_COLUMNS}, job.parameters::text, job.traceparent,
           ready.rank, ready.lost AS ready_lost
    FROM jobs AS job
    LEFT JOIN job_running AS running USING (job_id)
    LEFT JOIN job_ready AS ready USING (job_id)
    WHERE job.tenant_id = %(tenant)s AND job_id = %(job_id)s
"""  # noqa: S608  the parts are literals

BRIEF = f"SELECT {_BRIEF} FROM jobs AS job WHERE job.tenant_id = %(tenant)s AND job.job_id = %(job_id)s"  # noqa: S608

# The jobs before one that is ready, by the index that executors claim by.
POSITION = """
    SELECT count(*) AS count
    FROM (SELECT FROM job_ready
          WHERE queue = %(queue)s AND tenant_id = %(tenant)s AND lost = 0 AND (rank, job_id) < (%(rank)s, %(job_id)s)
          LIMIT %(limit)s) AS before
"""

ATTEMPTS = """
    SELECT attempt_id::text, number, generation, executor_id::text, outcome, reason, error_type, error, traceback,
           right(log, %(log_tail)s) AS log_tail, cpu_s, peak_bytes, claimed_at, started_at, finished_at,
           extract(epoch FROM finished_at - started_at)::double precision AS duration_s
    FROM job_attempts
    WHERE job_id = %(job_id)s AND tenant_id = %(tenant)s
    ORDER BY number DESC
    LIMIT %(limit)s
"""

# A result has no tenant of its own: its job has.
RESULT = """
    SELECT result::text
    FROM job_results
    WHERE job_id = %(job_id)s AND EXISTS (SELECT FROM jobs WHERE job_id = %(job_id)s AND tenant_id = %(tenant)s)
    ORDER BY finished_at DESC
    LIMIT 1
"""

LOG = """
    SELECT job_id::text AS task_id, number AS attempt, coalesce(log, '') AS log
    FROM job_attempts
    WHERE job_id = %(job_id)s AND tenant_id = %(tenant)s AND (%(number)s::integer IS NULL OR number = %(number)s)
    ORDER BY number DESC
    LIMIT 1
"""

HOLDERS = f"""
    SELECT held.type AS key_type, held.dedupe_key, {_BRIEF}
    FROM unnest(%(types)s::text[], %(keys)s::text[]) AS asked (type, dedupe_key)
    JOIN job_dedupe_keys AS held
      ON held.tenant_id = %(tenant)s AND held.type = asked.type AND held.dedupe_key = asked.dedupe_key
    JOIN jobs AS job ON job.job_id = held.job_id AND job.tenant_id = %(tenant)s
"""  # noqa: S608

# The index jobs_newest serves the order; a filter is tried on a bounded number of its rows, and ends early.
NEWEST = f"""
    SELECT {_COLUMNS}, job.created_at AS moment
    FROM (SELECT * FROM (SELECT * {_LOOKED_AT} LIMIT %(looked_at_max)s) AS looked_at
          WHERE {_ADMITTED}
          ORDER BY created_at DESC, job_id DESC
          OFFSET %(skip)s LIMIT %(limit)s) AS job
    LEFT JOIN job_running AS running USING (job_id)
    ORDER BY job.created_at DESC, job.job_id DESC
"""  # noqa: S608

# The last row that a page looked at, from which the next one goes on.
LAST_LOOKED_AT = f"""
    SELECT created_at AS moment, job_id::text AS task_id {_LOOKED_AT} OFFSET %(looked_at_max)s - 1 LIMIT 1
"""

# Few jobs run: they are found by their own table, not among the millions that have ended.
NEWEST_RUNNING = f"""
    SELECT {_COLUMNS}, job.created_at AS moment
    FROM (SELECT * FROM jobs
          WHERE tenant_id = %(tenant)s AND created_at >= %(from)s::timestamptz AND created_at < %(before)s::timestamptz
            AND (created_at, job_id) < (%(after)s::timestamptz, %(after_id)s::uuid)
            AND job_id = ANY (ARRAY (SELECT job_id FROM job_running WHERE tenant_id = %(tenant)s
                                     LIMIT %(looked_at_max)s))
            AND {_ADMITTED}
          ORDER BY created_at DESC, job_id DESC
          OFFSET %(skip)s LIMIT %(limit)s) AS job
    LEFT JOIN job_running AS running USING (job_id)
    ORDER BY job.created_at DESC, job.job_id DESC
"""  # noqa: S608

# In each queue those with the lowest rank, by the index of claims; suspects, few, by theirs; then the delayed ones.
PENDING = f"""
    SELECT {_COLUMNS}, waiting.moment
    FROM (SELECT job_id, moment
          FROM (SELECT first.job_id, first.rank AS moment
                FROM job_queues AS each
                CROSS JOIN LATERAL (
                    SELECT job_id, rank FROM job_ready
                    WHERE queue = each.queue AND tenant_id = %(tenant)s AND lost = 0
                      AND (rank, job_id) > (%(after)s::timestamptz, %(after_id)s::uuid)
                    ORDER BY rank, job_id LIMIT %(ends_at)s) AS first
                WHERE %(queue)s::text IS NULL OR each.queue = %(queue)s
              UNION ALL
                SELECT job_id, rank FROM job_ready
                WHERE lost > 0 AND tenant_id = %(tenant)s AND (%(queue)s::text IS NULL OR queue = %(queue)s)
                  AND (rank, job_id) > (%(after)s::timestamptz, %(after_id)s::uuid)
              UNION ALL
                (SELECT job_id, run_at FROM job_delayed
                 WHERE tenant_id = %(tenant)s AND (%(queue)s::text IS NULL OR queue = %(queue)s)
                   AND (run_at, job_id) > (%(after)s::timestamptz, %(after_id)s::uuid)
                 ORDER BY run_at, job_id LIMIT %(ends_at)s)) AS all_waiting
          ORDER BY moment, job_id
          OFFSET %(skip)s LIMIT %(limit)s) AS waiting
    JOIN jobs AS job ON job.job_id = waiting.job_id AND job.tenant_id = %(tenant)s
    LEFT JOIN job_running AS running ON running.job_id = job.job_id
    ORDER BY waiting.moment, waiting.job_id
"""  # noqa: S608

FAILED = f"""
    SELECT {_COLUMNS}, job.failed_at AS moment
    FROM (SELECT * FROM jobs
          WHERE tenant_id = %(tenant)s AND failed_at IS NOT NULL AND status = 'failed'
            AND (%(queue)s::text IS NULL OR queue = %(queue)s)
            AND (failed_at, job_id) < (%(after)s::timestamptz, %(after_id)s::uuid)
          ORDER BY failed_at DESC, job_id DESC
          OFFSET %(skip)s LIMIT %(limit)s) AS job
    LEFT JOIN job_running AS running USING (job_id)
    ORDER BY job.failed_at DESC, job.job_id DESC
"""  # noqa: S608

COUNT_NEWEST = f"""
    SELECT count(*) FILTER (WHERE {_ADMITTED}) AS count, count(*) AS looked_at
    FROM (SELECT * {_LOOKED_AT} LIMIT %(looked_at_max)s + 1) AS looked_at
"""  # noqa: S608

COUNT_PENDING = """
    SELECT count(*) FILTER (WHERE %(queue)s::text IS NULL OR queue = %(queue)s) AS count, count(*) AS looked_at
    FROM (SELECT queue FROM (SELECT queue FROM job_ready WHERE tenant_id = %(tenant)s
                           UNION ALL
                             SELECT queue FROM job_delayed WHERE tenant_id = %(tenant)s) AS waiting
          LIMIT %(looked_at_max)s + 1) AS looked_at
"""

COUNT_FAILED = """
    SELECT count(*) FILTER (WHERE %(queue)s::text IS NULL OR queue = %(queue)s) AS count, count(*) AS looked_at
    FROM (SELECT queue FROM jobs
          WHERE tenant_id = %(tenant)s AND failed_at IS NOT NULL AND status = 'failed'
          LIMIT %(looked_at_max)s + 1) AS looked_at
"""

# Of narrow tables, up to what a tenant may have.
UNFINISHED = """
    SELECT count(*) AS count
    FROM (SELECT FROM job_ready WHERE tenant_id = %(tenant)s
        UNION ALL
          SELECT FROM job_delayed WHERE tenant_id = %(tenant)s
        UNION ALL
          SELECT FROM job_running WHERE tenant_id = %(tenant)s
          LIMIT %(limit)s) AS unfinished
"""

_QUEUE_COLUMNS: LiteralString = """
    SELECT each.queue, each.paused_at IS NOT NULL AND coalesce(each.paused_until > clock_timestamp(), true) AS paused,
           each.paused_at, each.paused_until, each.pause_reason, each.max_running, each.max_running_per_tenant,
           each.step_s, ready.count + suspect.count AS ready, coalesce(delayed.count, 0) AS delayed,
           running.count AS running, executor.count AS executors,
           extract(epoch FROM clock_timestamp() - head.ready_at)::double precision AS oldest_ready_s
    FROM job_queues AS each
"""
_QUEUE_EXECUTORS: LiteralString = """
    CROSS JOIN LATERAL (
        SELECT count(*) AS count FROM executors
        WHERE each.queue = ANY (queues) AND NOT is_draining
          AND beat_at > clock_timestamp() - make_interval(secs => %(lease_s)s)) AS executor
    ORDER BY each.queue
"""

# Each count ends at its bound. The ready ones are counted in the order of the index of claims, without which Postgres
# may read the whole table for a queue that is empty; its first row is the next to run.
QUEUES_OF_TENANT = f"""
    {_QUEUE_COLUMNS}
    CROSS JOIN LATERAL (
        SELECT count(*) AS count FROM (SELECT FROM job_ready
        WHERE queue = each.queue AND tenant_id = %(tenant)s AND lost = 0
        ORDER BY rank, job_id LIMIT %(limit)s) AS counted) AS ready
    CROSS JOIN LATERAL (
        SELECT count(*) AS count FROM (SELECT FROM job_ready
        WHERE queue = each.queue AND tenant_id = %(tenant)s AND lost > 0 LIMIT %(limit)s) AS counted) AS suspect
    LEFT JOIN LATERAL (
        SELECT ready_at FROM job_ready WHERE queue = each.queue AND tenant_id = %(tenant)s AND lost = 0
        ORDER BY rank, job_id LIMIT 1) AS head ON true
    CROSS JOIN LATERAL (
        SELECT count(*) AS count FROM (SELECT FROM job_running
        WHERE queue = each.queue AND tenant_id = %(tenant)s LIMIT %(limit)s) AS counted) AS running
    LEFT JOIN (
        SELECT queue, count(*) AS count FROM (SELECT queue FROM job_delayed
        WHERE tenant_id = %(tenant)s LIMIT %(limit)s) AS counted GROUP BY queue) AS delayed USING (queue)
    {_QUEUE_EXECUTORS}
"""  # noqa: S608

# As before; what goes first in a queue is found tenant by tenant, a jump in the index each.
QUEUES_OF_ALL = f"""
    {_QUEUE_COLUMNS}
    CROSS JOIN LATERAL (
        SELECT count(*) AS count FROM (SELECT FROM job_ready
        WHERE queue = each.queue AND lost = 0
        ORDER BY tenant_id, rank, job_id LIMIT %(limit)s) AS counted) AS ready
    CROSS JOIN LATERAL (
        SELECT count(*) AS count FROM (SELECT FROM job_ready
        WHERE queue = each.queue AND lost > 0 LIMIT %(limit)s) AS counted) AS suspect
    LEFT JOIN LATERAL (
        WITH RECURSIVE heads AS (
            (SELECT tenant_id, ready_at FROM job_ready WHERE queue = each.queue AND lost = 0
             ORDER BY tenant_id, rank, job_id LIMIT 1)
          UNION ALL
            SELECT following.tenant_id, following.ready_at
            FROM heads
            CROSS JOIN LATERAL (
                SELECT tenant_id, ready_at FROM job_ready
                WHERE queue = each.queue AND lost = 0 AND tenant_id > heads.tenant_id
                ORDER BY tenant_id, rank, job_id LIMIT 1) AS following
        )
        SELECT min(ready_at) AS ready_at FROM (SELECT ready_at FROM heads LIMIT %(tenants)s) AS found
    ) AS head ON true
    CROSS JOIN LATERAL (
        SELECT count(*) AS count FROM (SELECT FROM job_running
        WHERE queue = each.queue LIMIT %(limit)s) AS counted) AS running
    LEFT JOIN (
        SELECT queue, count(*) AS count FROM (SELECT queue FROM job_delayed LIMIT %(limit)s) AS counted
        GROUP BY queue) AS delayed USING (queue)
    {_QUEUE_EXECUTORS}
"""  # noqa: S608

QUEUE_NAMES = "SELECT queue FROM job_queues"

EXECUTORS = """
    SELECT executor_id::text, host, pid, version, queues, types, slots, busy, is_draining, started_at,
           greatest(extract(epoch FROM clock_timestamp() - beat_at), 0)::double precision AS silent_s
    FROM executors
    WHERE beat_at > clock_timestamp() - make_interval(secs => %(shown_s)s)
    ORDER BY beat_at DESC
    LIMIT %(limit)s
"""

# Without that role the sessions of others show no times.
OLDEST_SNAPSHOT = """
    SELECT CASE WHEN pg_has_role('pg_read_all_stats', 'USAGE') THEN coalesce(max(
           extract(epoch FROM clock_timestamp() - xact_start)), 0)::double precision END AS age_s
    FROM pg_stat_activity
    WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND datname = current_database()
"""

_SCHEDULE: LiteralString = """
    SELECT schedule_id::text, name, definition::text, paused_at, next_at, last_fired_at,
           last_job_id::text AS last_task_id, created_by, created_at, updated_at
    FROM job_schedules
    WHERE tenant_id = %(tenant)s
"""

SCHEDULES = f"""
    {_SCHEDULE} AND (%(after)s::text IS NULL OR name > %(after)s) ORDER BY name LIMIT %(limit)s
"""

SCHEDULE = f"{_SCHEDULE} AND schedule_id = %(schedule_id)s"

_OPERATION: LiteralString = """
    SELECT operation_id::text, action, priority, filter::text, job_count, done_count, refused_count, started_by,
           created_at, finished_at
    FROM job_operations
    WHERE tenant_id = %(tenant)s
"""

OPERATIONS = f"""
    {_OPERATION} AND (created_at, operation_id) < (%(after)s::timestamptz, %(after_id)s::uuid)
    ORDER BY created_at DESC, operation_id DESC
    LIMIT %(limit)s
"""

OPERATION = f"{_OPERATION} AND operation_id = %(operation_id)s"

# Where a record is in the log, its row must be of the same command, for a log that was cut off gives old places to new
# records. Of a queue the target is no UUID.
OUTCOME = """
    SELECT CASE done.outcome WHEN 'refused' THEN 'rejected' ELSE done.outcome END AS outcome, done.kind,
           done.detail AS reason, done.stored_at, job.status
    FROM job_commands AS done
    LEFT JOIN jobs AS job
      ON job.job_id = CASE WHEN done.kind IN ('submit', 'cancel', 'retry', 'reprioritise') THEN done.target::uuid END
     AND job.tenant_id = done.tenant_id
    WHERE done.kafka_partition = %(partition)s AND done.kafka_offset = %(offset)s AND done.tenant_id = %(tenant)s
      AND (%(command_id)s::text IS NULL OR done.command_id = %(command_id)s)
  UNION ALL
    SELECT 'rejected', NULL, reason || ': ' || detail, stored_at, NULL
    FROM job_rejections
    WHERE kafka_partition = %(partition)s AND kafka_offset = %(offset)s AND tenant_id = %(tenant)s
  LIMIT 1
"""

_LISTINGS: Mapping[JobListing, tuple[LiteralString, LiteralString]] = {
    JobListing.NEWEST: (NEWEST, COUNT_NEWEST),
    JobListing.PENDING: (PENDING, COUNT_PENDING),
    JobListing.FAILED: (FAILED, COUNT_FAILED),
}


class PostgresJobStore:
    """`JobStore` on read-only connections."""

    def __init__(self, reads: PostgresReads) -> None:
        """Read by the connections of *reads*."""
        self._reads = reads

    async def job(self, tenant: str, job_id: str) -> JobView | None:
        """See `JobStore.job`."""
        asked: dict[str, Any] = {"tenant": tenant, "job_id": job_id}
        async with self._reads.connection() as connection:
            row = await (await connection.execute(JOB, asked)).fetchone()
            if row is None:
                return None
            limits = {"limit": ATTEMPTS_SHOWN_MAX, "log_tail": LOG_TAIL_CHARACTERS}
            attempts = await (await connection.execute(ATTEMPTS, asked | limits)).fetchall()
            more: dict[str, Any] = {}
            if row["status"] == JobStatus.COMPLETED:
                result = await (await connection.execute(RESULT, asked)).fetchone()
                more = {"result_expired": True} if result is None else {"result": msgspec.Raw(result["result"])}
            if row["rank"] is not None and row["ready_lost"] == 0:
                place = {"queue": row["queue"], "rank": row["rank"], "limit": POSITION_MAX}
                before = await (await connection.execute(POSITION, asked | place)).fetchone()
                assert before is not None
                more["position"] = before["count"]
        return JobView(
            **_summary_fields(row),
            parameters=msgspec.Raw(row["parameters"]),
            traceparent=row["traceparent"],
            attempt_history=[msgspec.convert(each, AttemptView) for each in attempts],
            **more,
        )

    async def brief(self, tenant: str, job_id: str) -> JobBrief | None:
        """See `JobStore.brief`."""
        row = await self._reads.row(BRIEF, {"tenant": tenant, "job_id": job_id}, urgent=True)
        return None if row is None else _brief(row)

    async def holders(self, tenant: str, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], JobBrief]:
        """See `JobStore.holders`."""
        asked = {"tenant": tenant, "types": [type_ for type_, _ in keys], "keys": [key for _, key in keys]}
        async with self._reads.connection(urgent=True) as connection:
            rows = await (await connection.execute(HOLDERS, asked)).fetchall()
        return {(row.pop("key_type"), row.pop("dedupe_key")): _brief(row) for row in rows}

    async def log(self, tenant: str, job_id: str, number: int | None) -> JobLogView | None:
        """See `JobStore.log`."""
        row = await self._reads.row(LOG, {"tenant": tenant, "job_id": job_id, "number": number})
        return None if row is None else JobLogView(**row)

    async def jobs(
        self, tenant: str, listing: JobListing, admitted: JobFilter, *, after: JobPlace | None, skip: int, limit: int
    ) -> tuple[Sequence[JobSummary], JobPlace | None]:
        """See `JobStore.jobs`."""
        statement, _ = _LISTINGS[listing]
        is_filtered = listing is JobListing.NEWEST and admitted != JobFilter(
            created_from=admitted.created_from, created_to=admitted.created_to
        )
        if listing is JobListing.NEWEST and admitted.status is JobStatus.RUNNING:
            statement, is_filtered = NEWEST_RUNNING, False
        asked = _admitted(tenant, admitted) | _after(after, ascending=listing is JobListing.PENDING)
        asked |= {
            "skip": skip,
            "limit": limit + 1,  # one more tells whether there is a next page
            "ends_at": skip + limit + 1,
            "looked_at_max": LOOKED_AT_MAX if is_filtered else skip + limit + 1,
        }
        if statement is NEWEST_RUNNING:
            asked["looked_at_max"] = LOOKED_AT_MAX
        async with self._reads.connection() as connection:
            rows = await (await connection.execute(statement, asked)).fetchall()
            page = [JobSummary(**_summary_fields(row)) for row in rows[:limit]]
            if len(rows) > limit:
                return page, JobPlace(rows[limit - 1]["moment"], page[-1].task_id)
            if not is_filtered:
                return page, None
            last = await (await connection.execute(LAST_LOOKED_AT, asked)).fetchone()
        return page, None if last is None else JobPlace(last["moment"], last["task_id"])

    async def count(
        self, tenant: str, listing: JobListing, admitted: JobFilter, *, looked_at_max: int = LOOKED_AT_MAX
    ) -> Total:
        """See `JobStore.count`."""
        _, statement = _LISTINGS[listing]
        asked = _admitted(tenant, admitted) | _after(None, ascending=False) | {"looked_at_max": looked_at_max}
        row = await self._reads.row(statement, asked)
        assert row is not None
        return Total(min(row["count"], looked_at_max), is_estimate=row["looked_at"] > looked_at_max)

    async def unfinished(self, tenant: str, *, count_max: int) -> int:
        """See `JobStore.unfinished`."""
        row = await self._reads.row(UNFINISHED, {"tenant": tenant, "limit": count_max}, urgent=True)
        return 0 if row is None else int(row["count"])

    async def queues(self, tenant: str | None) -> Sequence[QueueView]:
        """See `JobStore.queues`."""
        asked = {"limit": COUNTED_MAX, "lease_s": LEASE_S}
        if tenant is None:
            rows = await self._reads.rows(QUEUES_OF_ALL, asked | {"tenants": TENANTS_LOOKED_AT_MAX})
        else:
            rows = await self._reads.rows(QUEUES_OF_TENANT, asked | {"tenant": tenant})
        return [QueueView(**row | {"ready": min(row["ready"], COUNTED_MAX)}) for row in rows]

    async def queue_names(self) -> frozenset[str]:
        """See `JobStore.queue_names`."""
        async with self._reads.connection(urgent=True) as connection:
            rows = await (await connection.execute(QUEUE_NAMES)).fetchall()
        return frozenset(row["queue"] for row in rows)

    async def executors(self) -> Sequence[ExecutorView]:
        """See `JobStore.executors`."""
        rows = await self._reads.rows(EXECUTORS, {"shown_s": EXECUTORS_SHOWN_S, "limit": EXECUTORS_SHOWN_MAX})
        return [ExecutorView(**row) for row in rows]

    async def oldest_snapshot_s(self) -> float | None:
        """See `JobStore.oldest_snapshot_s`."""
        row = await self._reads.row(OLDEST_SNAPSHOT, {})
        return None if row is None else row["age_s"]

    async def schedules(self, tenant: str, *, after: str | None, limit: int) -> tuple[Sequence[ScheduleView], bool]:
        """See `JobStore.schedules`."""
        rows = await self._reads.rows(SCHEDULES, {"tenant": tenant, "after": after, "limit": limit + 1})
        return [_schedule_view(row) for row in rows[:limit]], len(rows) > limit

    async def schedule(self, tenant: str, schedule_id: str) -> ScheduleView | None:
        """See `JobStore.schedule`."""
        row = await self._reads.row(SCHEDULE, {"tenant": tenant, "schedule_id": schedule_id})
        return None if row is None else _schedule_view(row)

    async def operations(
        self, tenant: str, *, after: JobPlace | None, limit: int
    ) -> tuple[Sequence[OperationView], bool]:
        """See `JobStore.operations`."""
        asked = {"tenant": tenant, "limit": limit + 1} | _after(after, ascending=False)
        rows = await self._reads.rows(OPERATIONS, asked)
        return [_operation_view(row) for row in rows[:limit]], len(rows) > limit

    async def operation(self, tenant: str, operation_id: str) -> OperationView | None:
        """See `JobStore.operation`."""
        row = await self._reads.row(OPERATION, {"tenant": tenant, "operation_id": operation_id})
        return None if row is None else _operation_view(row)

    async def effect(self, tenant: str, place: RecordPlace, command_id: str | None) -> Effect | None:
        """See `JobStore.effect`."""
        asked = {
            "tenant": tenant,
            "partition": place.partition,
            "offset": place.offset,
            "command_id": command_id,
        }
        row = await self._reads.row(OUTCOME, asked)
        return None if row is None else command_effect(row, state=row["status"])


def _admitted(tenant: str, admitted: JobFilter) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "status": admitted.status,
        "type": admitted.type,
        "queue": admitted.queue,
        "user_id": admitted.user_id,
        "tag": admitted.tag,
        "reason": admitted.reason,
        "dedupe_key": admitted.dedupe_key,
        "from": admitted.created_from or "-infinity",
        "before": admitted.created_to or "infinity",
        "metadata": msgspec.json.encode(admitted.metadata).decode(),
    }


def _after(place: JobPlace | None, *, ascending: bool) -> dict[str, Any]:
    if place is not None:
        return {"after": place.moment, "after_id": place.job_id}
    if ascending:
        return {"after": "-infinity", "after_id": _FIRST_ID}
    return {"after": "infinity", "after_id": _LAST_ID}


def _summary_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: row[name] for name in JobSummary.__struct_fields__ if name in row}
    progress = JobProgressView(fraction=row["fraction"], message=row["message"]) if row["has_progress"] else None
    raw = {name: None if row[name] is None else msgspec.Raw(row[name]) for name in ("metadata", "summary")}
    return fields | raw | {"progress": progress}


def _brief(row: dict[str, Any]) -> JobBrief:
    return JobBrief(**row | {"status": JobStatus(row["status"])})


def _schedule_view(row: dict[str, Any]) -> ScheduleView:
    definition = msgspec.json.decode(row["definition"], type=ScheduleDefinition)
    return ScheduleView(
        **row | {"definition": msgspec.Raw(row["definition"])},
        next_times=next_times(definition, after=datetime.now(UTC)),
    )


def _operation_view(row: dict[str, Any]) -> OperationView:
    return OperationView(**row | {"filter": msgspec.Raw(row["filter"])})
