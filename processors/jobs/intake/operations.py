"""
Operations: an action on every job that a filter matches.

The jobs are those that match when the command is applied; a background task carries the action out for some of them at
a time, so that it never holds up other commands.
"""

from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncCursor

from processors.jobs.moves import AUDIT, Verdict, change_job
from processors.postgres.writes import PostgresWrites
from schemas.jobs.filters import MATCHES, JobFilter, matched
from schemas.jobs.records import StartOperation
from schemas.jobs.rules import OPERATION_JOBS_MAX
from schemas.jobs.states import JobAction

ITEMS_A_TIME = 200

START = f"""
    WITH matching AS MATERIALIZED (SELECT job_id FROM jobs WHERE {MATCHES} LIMIT %(limit)s),
    started AS (
        INSERT INTO job_operations (operation_id, tenant_id, action, priority, filter, job_count, started_by,
            finished_at)
        SELECT %(operation_id)s, %(tenant)s, %(action)s, %(priority)s, %(filter)s::json, count(*), %(by)s,
            CASE WHEN count(*) = 0 THEN clock_timestamp() END
        FROM matching
        RETURNING job_count
    ),
    items AS (
        INSERT INTO job_operation_items (operation_id, job_id) SELECT %(operation_id)s, job_id FROM matching
    )
    SELECT job_count FROM started
"""  # noqa: S608  the parts are literals

# One process works on an operation at a time.
OPEN = """
    SELECT operation_id, tenant_id, action, priority, started_by
    FROM job_operations
    WHERE finished_at IS NULL
    ORDER BY created_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED
"""
ITEMS = """
    SELECT job_id FROM job_operation_items WHERE operation_id = %s AND outcome IS NULL LIMIT %s
"""
DONE = "UPDATE job_operation_items SET outcome = %s WHERE operation_id = %s AND job_id = %s"
COUNT = """
    UPDATE job_operations
    SET done_count = done_count + %(done)s, refused_count = refused_count + %(refused)s,
        finished_at = CASE WHEN %(is_last)s THEN clock_timestamp() END
    WHERE operation_id = %(operation_id)s
"""


async def start(cursor: AsyncCursor[Any], command: StartOperation) -> Verdict:
    """Freeze the jobs of an operation, within the caller's transaction."""
    try:
        asked = msgspec.json.decode(command.filter, type=JobFilter)
    except msgspec.DecodeError as error:
        return Verdict(is_done=False, detail=f"the filter cannot be read: {error}")
    await cursor.execute(
        START,
        matched(asked, tenant=command.tenant)
        | {
            "operation_id": UUID(command.operation_id),
            "action": command.action,
            "priority": command.priority,
            "filter": command.filter,
            "by": command.by,
            "limit": OPERATION_JOBS_MAX,
        },
    )
    row = await cursor.fetchone()
    assert row is not None
    detail = msgspec.json.encode({"jobs": row[0]}).decode()
    action = f"operation.{command.action}"
    await cursor.execute(AUDIT, (command.tenant, command.by, action, command.operation_id, detail))
    return Verdict(is_done=True, detail=f"{row[0]} jobs")


class Operations:
    """The jobs of operations, some at a time."""

    def __init__(self, writes: PostgresWrites) -> None:
        """Work by the connections of *writes*."""
        self._writes = writes

    async def go_on(self) -> bool:
        """
        Carry out the oldest operation for some of its jobs; return True if there is more to do.

        Raises:
            Transient: Postgres is away.
        """
        async with self._writes.transaction() as (connection, goes_on), connection.cursor() as cursor:
            await cursor.execute(OPEN)
            if (found := await cursor.fetchone()) is None:
                return False
            operation_id, tenant, action, priority, by = found
            await cursor.execute(ITEMS, (operation_id, ITEMS_A_TIME))
            job_ids = [row[0] for row in await cursor.fetchall()]
            done = 0
            for job_id in job_ids:
                goes_on()
                verdict = await change_job(cursor, JobAction(action), job_id, tenant=tenant, by=by, priority=priority)
                done += verdict.is_done
                await cursor.execute(DONE, ("done" if verdict.is_done else verdict.detail, operation_id, job_id))
            await cursor.execute(
                COUNT,
                {
                    "operation_id": operation_id,
                    "done": done,
                    "refused": len(job_ids) - done,
                    "is_last": len(job_ids) < ITEMS_A_TIME,
                },
            )
            return True
