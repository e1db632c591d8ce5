"""Changes of queues: pauses and limits."""

from typing import Any

import msgspec
from psycopg import AsyncCursor

from processors.jobs.moves import AUDIT, Verdict
from schemas.jobs.records import ChangeQueue
from schemas.jobs.rules import STEP_S_DEFAULT
from schemas.jobs.states import QueueAction

PAUSE = """
    UPDATE job_queues
    SET paused_at = coalesce(paused_at, clock_timestamp()), paused_until = to_timestamp(%(until_ms)s / 1000.0),
        paused_by = %(by)s, pause_reason = %(reason)s
    WHERE queue = %(queue)s
"""
RESUME = """
    UPDATE job_queues SET paused_at = NULL, paused_until = NULL, paused_by = NULL, pause_reason = NULL
    WHERE queue = %(queue)s
    RETURNING pg_notify('tidegate_jobs', queue)
"""
CONFIGURE = """
    INSERT INTO job_queues (queue, step_s, max_running, max_running_per_tenant)
    VALUES (%(queue)s, %(step_s)s, %(max_running)s, %(max_running_per_tenant)s)
    ON CONFLICT (queue) DO UPDATE SET step_s = excluded.step_s, max_running = excluded.max_running,
        max_running_per_tenant = excluded.max_running_per_tenant
    RETURNING pg_notify('tidegate_jobs', queue)
"""
_STATEMENTS = {QueueAction.PAUSE: PAUSE, QueueAction.RESUME: RESUME, QueueAction.CONFIGURE: CONFIGURE}


async def change(cursor: AsyncCursor[Any], command: ChangeQueue) -> Verdict:
    """Carry out the command, within the caller's transaction."""
    asked = msgspec.structs.asdict(command) | {"step_s": command.step_s or STEP_S_DEFAULT}
    await cursor.execute(_STATEMENTS[command.action], asked)
    if not cursor.rowcount:
        return Verdict(is_done=False, detail="no such queue")
    shown = ("reason", "until_ms", "max_running", "max_running_per_tenant", "step_s")
    detail = {name: value for name in shown if (value := getattr(command, name)) is not None}
    await cursor.execute(
        AUDIT,
        (command.tenant, command.by, f"queue.{command.action}", command.queue, msgspec.json.encode(detail).decode()),
    )
    return Verdict(is_done=True)
