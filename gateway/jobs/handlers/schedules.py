"""Schedules: definitions by which jobs are submitted at their times."""

import msgspec
from aiohttp import web

from gateway.http import paging
from gateway.http.answers import answer, found, page
from gateway.http.body import read_body
from gateway.http.call import Call
from gateway.http.child.parsing import parse_body
from gateway.http.paging import read_limit
from gateway.jobs.changes import new_id
from gateway.jobs.handlers.submitting import origin_of
from gateway.jobs.parameters import read_id, read_name_cursor
from gateway.jobs.parsing.changes import PreparedSchedule
from gateway.jobs.parsing.prepared import check_right
from gateway.jobs.parsing.tasks import ParseSchedule
from gateway.jobs.parts import JobParts
from gateway.jobs.views import ChangeAnswer, ScheduleAnswer, SchedulePage, ScheduleView
from schemas.jobs.cron import ScheduleDefinition, next_times
from schemas.jobs.records import ChangeSchedule
from schemas.jobs.states import ScheduleAction

NO_SCHEDULE = "no such schedule"


async def list_schedules(parts: JobParts, call: Call) -> web.Response:
    """List the schedules of the tenant, by name."""
    query = call.request.query
    schedules, more = await parts.store.schedules(
        call.principal.tenant, after=read_name_cursor(query), limit=read_limit(query)
    )
    cursor = paging.cursor((schedules[-1].name,)) if more else None
    return page(call.request, SchedulePage(schedules=schedules, next_cursor=cursor))


async def show_schedule(parts: JobParts, call: Call) -> web.Response:
    """Return one schedule with its next times."""
    return answer(await _existing(parts, call))


async def create_schedule(parts: JobParts, call: Call) -> web.Response:
    """Store a schedule under a new id; its first time is the next one from now."""
    return await _put(parts, call, new_id())


async def replace_schedule(parts: JobParts, call: Call) -> web.Response:
    """Give a schedule another definition."""
    return await _put(parts, call, (await _existing(parts, call)).schedule_id)


async def delete_schedule(parts: JobParts, call: Call) -> web.Response:
    """Delete a schedule; the jobs that it submitted stay."""
    return await _changed(parts, call, ScheduleAction.DELETE)


async def pause_schedule(parts: JobParts, call: Call) -> web.Response:
    """Pause a schedule: its times pass."""
    return await _changed(parts, call, ScheduleAction.PAUSE)


async def resume_schedule(parts: JobParts, call: Call) -> web.Response:
    """Resume a schedule from now."""
    return await _changed(parts, call, ScheduleAction.RESUME)


async def run_schedule(parts: JobParts, call: Call) -> web.Response:
    """Submit the job of a schedule now, beside its times."""
    schedule = await _existing(parts, call)
    definition = msgspec.json.decode(schedule.definition, type=ScheduleDefinition)
    if (task_type := parts.types.get(definition.type)) is not None:
        check_right(task_type, call.principal)
    return await _applied(parts, call, schedule.schedule_id, ScheduleAction.RUN)


async def _put(parts: JobParts, call: Call, schedule_id: str) -> web.Response:
    task = ParseSchedule(body=await read_body(call), origin=await origin_of(parts, call))
    prepared: PreparedSchedule = await parse_body(task, call.credentials, parser=parts.shared.parser)
    command = ChangeSchedule(
        tenant=call.principal.tenant,
        schedule_id=schedule_id,
        command_id=new_id(),
        action=ScheduleAction.PUT,
        definition=prepared.text,
        by=call.principal.key_id,
    )
    place, applied = await parts.changes.apply(command, call.stamp)
    document = ScheduleAnswer(
        schedule_id=schedule_id,
        wal_id=place.wal_id,
        applied=applied,
        next_times=next_times(prepared.definition, after=call.stamp.received_at),
    )
    return answer(document, status=202)


async def _changed(parts: JobParts, call: Call, action: ScheduleAction) -> web.Response:
    return await _applied(parts, call, (await _existing(parts, call)).schedule_id, action)


async def _applied(parts: JobParts, call: Call, schedule_id: str, action: ScheduleAction) -> web.Response:
    command = ChangeSchedule(
        tenant=call.principal.tenant,
        schedule_id=schedule_id,
        command_id=new_id(),
        action=action,
        by=call.principal.key_id,
    )
    place, applied = await parts.changes.apply(command, call.stamp)
    return answer(ChangeAnswer(target=schedule_id, wal_id=place.wal_id, applied=applied), status=202)


async def _existing(parts: JobParts, call: Call) -> ScheduleView:
    schedule_id = read_id(call.path["schedule_id"], NO_SCHEDULE)
    schedule = await parts.store.schedule(call.principal.tenant, schedule_id)
    if schedule is None:
        await parts.changes.has_come_to(schedule_id)
        schedule = await parts.store.schedule(call.principal.tenant, schedule_id)
    return found(schedule, NO_SCHEDULE)
