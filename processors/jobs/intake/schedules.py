"""
Schedules: changes of them, and the jobs that they fire.

A job's id follows from its schedule and the time that it stands for, and the row of a schedule is locked while its
jobs are on their way to the log: so any number of processes may fire schedules, and a crash between the two repeats a
submission that is known already.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from psycopg import AsyncCursor

from processors.jobs.moves import AUDIT, Verdict
from processors.postgres.writes import PostgresWrites
from schemas.ids import milliseconds_of
from schemas.jobs.cron import CATCH_UP_MAX, ScheduleDefinition, definition_faults, next_times, passed_times
from schemas.jobs.records import ChangeSchedule, SubmitJob, content_sha256, scheduled_job_id
from schemas.jobs.states import Missed, Overlap, ScheduleAction
from schemas.jobs.types import DEFAULT_QUEUE, TaskTypes

FIRED_MAX = 20  # schedules a transaction
LATE_AFTER = timedelta(seconds=60)  # a time that is seen later than this was missed
STORED_WITHIN = timedelta(minutes=10)  # of its submission; a job that is not there later was removed

PUT = """
    INSERT INTO job_schedules (schedule_id, tenant_id, name, definition, next_at, created_by)
    VALUES (%(schedule_id)s, %(tenant)s, %(name)s, %(definition)s::json, %(next_at)s, %(by)s)
    ON CONFLICT (schedule_id) DO UPDATE SET name = excluded.name, definition = excluded.definition,
        next_at = excluded.next_at, updated_at = clock_timestamp()
    WHERE job_schedules.tenant_id = excluded.tenant_id
"""
NAME_IS_TAKEN = """
    SELECT EXISTS (
        SELECT FROM job_schedules
        WHERE tenant_id = %(tenant)s AND name = %(name)s AND schedule_id <> %(schedule_id)s
    )
"""
OWN = "WHERE schedule_id = %(schedule_id)s AND tenant_id = %(tenant)s"
DELETE = f"DELETE FROM job_schedules {OWN}"  # noqa: S608  the parts are literals
PAUSE = f"UPDATE job_schedules SET paused_at = coalesce(paused_at, clock_timestamp()) {OWN}"  # noqa: S608
# What it missed while it was paused was not to run.
RESUME = f"UPDATE job_schedules SET paused_at = NULL, next_at = %(next_at)s {OWN}"  # noqa: S608
READ = f"SELECT definition, paused_at IS NOT NULL FROM job_schedules {OWN} FOR UPDATE"  # noqa: S608
RUN_NOW = f"UPDATE job_schedules SET next_at = least(next_at, %(now)s) {OWN}"  # noqa: S608

DUE = """
    SELECT schedule_id, tenant_id, definition, next_at, last_job_id, last_fired_at, clock_timestamp() AS now
    FROM job_schedules
    WHERE next_at <= clock_timestamp() AND paused_at IS NULL
    ORDER BY next_at
    LIMIT %s
    FOR UPDATE SKIP LOCKED
"""
STATUS = "SELECT status FROM jobs WHERE job_id = %s"
# The schedule is as it was when it was found due, for its row is locked; next_at guards against a change of that.
FIRED = """
    UPDATE job_schedules
    SET next_at = %(next_at)s, last_fired_at = coalesce(%(fired_at)s, last_fired_at),
        last_job_id = coalesce(%(job_id)s, last_job_id)
    WHERE schedule_id = %(schedule_id)s AND next_at = %(due_at)s
"""

Submit = Callable[[Sequence[SubmitJob]], Awaitable[None]]
"""Writes submissions to the log; returns when they are acknowledged. Raises Transient."""


class _Due(NamedTuple):
    """A schedule whose time has come."""

    schedule_id: UUID
    tenant: str
    definition: ScheduleDefinition
    due_at: datetime
    last_job_id: UUID | None
    last_fired_at: datetime | None
    now: datetime


async def change(cursor: AsyncCursor[Any], command: ChangeSchedule, *, now: datetime) -> Verdict:
    """Carry out the command, within the caller's transaction."""
    asked: dict[str, Any] = {
        "schedule_id": UUID(command.schedule_id),
        "tenant": command.tenant,
        "by": command.by,
        "now": now,
    }
    match command.action:
        case ScheduleAction.PUT:
            verdict = await _put(cursor, command, asked, now=now)
        case ScheduleAction.RESUME | ScheduleAction.RUN:
            verdict = await _go_on(cursor, command, asked, now=now)
        case ScheduleAction.DELETE | ScheduleAction.PAUSE:
            await cursor.execute(DELETE if command.action is ScheduleAction.DELETE else PAUSE, asked)
            verdict = Verdict(is_done=bool(cursor.rowcount), detail=None if cursor.rowcount else "no such schedule")
    if verdict.is_done:
        await cursor.execute(
            AUDIT,
            (command.tenant, command.by, f"schedule.{command.action}", command.schedule_id, command.definition),
        )
    return verdict


async def _put(cursor: AsyncCursor[Any], command: ChangeSchedule, asked: dict[str, Any], *, now: datetime) -> Verdict:
    try:
        definition = msgspec.json.decode(command.definition or "", type=ScheduleDefinition)
    except msgspec.DecodeError as error:
        return Verdict(is_done=False, detail=f"the definition cannot be read: {error}")
    if faults := definition_faults(definition):
        return Verdict(is_done=False, detail=f"{faults[0].pointer}: {faults[0].detail}")
    asked |= {"name": definition.name, "definition": command.definition, "next_at": _next(definition, now)}
    await cursor.execute(NAME_IS_TAKEN, asked)
    if (row := await cursor.fetchone()) is not None and row[0]:
        return Verdict(is_done=False, detail=f"another schedule is called {definition.name!r}")
    await cursor.execute(PUT, asked)
    return Verdict(is_done=bool(cursor.rowcount), detail=None if cursor.rowcount else "no such schedule")


async def _go_on(cursor: AsyncCursor[Any], command: ChangeSchedule, asked: dict[str, Any], *, now: datetime) -> Verdict:
    await cursor.execute(READ, asked)
    if (row := await cursor.fetchone()) is None:
        return Verdict(is_done=False, detail="no such schedule")
    if row[1] and command.action is ScheduleAction.RUN:
        return Verdict(is_done=False, detail="the schedule is paused: resume it first")
    asked["next_at"] = _next(msgspec.convert(row[0], ScheduleDefinition), now)
    await cursor.execute(RESUME if command.action is ScheduleAction.RESUME else RUN_NOW, asked)
    return Verdict(is_done=True)


class Scheduler:
    """The firing of schedules whose time has come."""

    def __init__(
        self, writes: PostgresWrites, types: TaskTypes, submit: Submit, *, fired: Callable[[int], None]
    ) -> None:
        """Read and mark schedules by *writes*, and *submit* their jobs; *fired* is given how many."""
        self._writes = writes
        self._types = types
        self._submit = submit
        self._fired = fired

    async def fire(self) -> bool:
        """
        Fire what is due, some of it at a time; return True if more may be due.

        Raises:
            Transient: Kafka or Postgres is away. What was submitted and not marked is submitted again, to no effect.
        """
        async with self._writes.transaction() as (connection, goes_on), connection.cursor() as cursor:
            await cursor.execute(DUE, [FIRED_MAX])
            rows = await cursor.fetchall()
            for schedule_id, tenant, definition, *moments in rows:
                goes_on()
                decoded = msgspec.convert(definition, ScheduleDefinition)
                await self._fire(cursor, _Due(schedule_id, tenant, decoded, *moments))
        return len(rows) == FIRED_MAX

    async def _fire(self, cursor: AsyncCursor[Any], due: _Due) -> None:
        moments = moments_to_fire(due.definition, due_at=due.due_at, now=due.now)
        jobs = [self._job(due, moment) for moment in await self._not_overlapping(cursor, due, moments)]
        if jobs:
            await self._submit(jobs)
            self._fired(len(jobs))
        await cursor.execute(
            FIRED,
            {
                "schedule_id": due.schedule_id,
                "due_at": due.due_at,
                "next_at": _next(due.definition, max(due.now, due.due_at)),
                "fired_at": moments[-1] if moments else None,
                "job_id": UUID(jobs[-1].job_id) if jobs else None,
            },
        )

    async def _not_overlapping(
        self, cursor: AsyncCursor[Any], due: _Due, moments: Sequence[datetime]
    ) -> Sequence[datetime]:
        if due.definition.overlap is Overlap.ALLOW or due.last_job_id is None:
            return moments if due.definition.overlap is Overlap.ALLOW else moments[-1:]
        await cursor.execute(STATUS, [due.last_job_id])
        row = await cursor.fetchone()
        if row is None:  # not stored yet, or removed long ago
            is_new = due.last_fired_at is not None and due.now - due.last_fired_at < STORED_WITHIN
            return () if is_new else moments[-1:]
        blocking = ("pending", "running") if due.definition.overlap is Overlap.SKIP else ("pending",)
        return () if row[0] in blocking else moments[-1:]

    def _job(self, due: _Due, moment: datetime) -> SubmitJob:
        definition, declared = due.definition, self._types.get(due.definition.type)
        queue = definition.queue or (DEFAULT_QUEUE if declared is None else declared.queue)
        nominal_ms = milliseconds_of(moment)
        parameters = msgspec.json.encode(definition.parameters).decode()
        content = {"type": definition.type, "queue": queue, "parameters": definition.parameters, "at": nominal_ms}
        return SubmitJob(
            tenant=due.tenant,
            job_id=scheduled_job_id(str(due.schedule_id), nominal_ms),
            type=definition.type,
            queue=queue,
            priority=definition.priority,
            parameters=parameters,
            max_attempts=definition.max_attempts or (3 if declared is None else declared.max_attempts),
            tags=(),
            schedule_id=str(due.schedule_id),
            content_sha256=content_sha256(content),
        )


def moments_to_fire(definition: ScheduleDefinition, *, due_at: datetime, now: datetime) -> Sequence[datetime]:
    """Return the times for which a schedule fires now, the oldest first: *due_at* and what was missed since."""
    passed = [due_at, *passed_times(definition, after=due_at, until=now, count=CATCH_UP_MAX)]
    match definition.missed:
        case Missed.COALESCE:
            return passed[-1:]
        case Missed.SKIP:
            return [moment for moment in passed[-1:] if now - moment <= LATE_AFTER]
        case Missed.CATCH_UP:
            return passed[-CATCH_UP_MAX:]


def _next(definition: ScheduleDefinition, after: datetime) -> datetime | None:
    return next(iter(next_times(definition, after=after.astimezone(UTC), count=1)), None)
