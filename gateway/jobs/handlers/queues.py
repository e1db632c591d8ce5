"""Queues: their state, pauses and limits. All tenants share them, so that changes need the right `admin`."""

from datetime import datetime

import msgspec
from aiohttp import web

from gateway.errors import InvalidPath, NotFound
from gateway.http.answers import answer
from gateway.http.body import read_body
from gateway.http.call import Call
from gateway.http.child.parsing import parse_body
from gateway.jobs.changes import new_id
from gateway.jobs.handlers.reading import counted_for
from gateway.jobs.parsing.changes import PauseBody, PreparedChange, QueueBody, milliseconds, moment_field
from gateway.jobs.parsing.tasks import ParseChange
from gateway.jobs.parts import JobParts
from gateway.jobs.views import ChangeAnswer, QueueList
from schemas.errors import Fault, Invalid
from schemas.jobs.records import ChangeQueue
from schemas.jobs.rules import queue_fault
from schemas.jobs.states import QueueAction
from schemas.structs import read_struct


async def list_queues(parts: JobParts, call: Call) -> web.Response:
    """List the queues with their limits, pauses and depths."""
    return answer(QueueList(queues=await parts.store.queues(counted_for(call))))


async def pause_queue(parts: JobParts, call: Call) -> web.Response:
    """Pause a queue: nothing of it is started until it is resumed; what runs goes on."""
    queue = await _existing(parts, call)
    asked = PauseBody()
    if call.request.body_exists:
        task = ParseChange(body=await read_body(call))
        change: PreparedChange = await parse_body(task, call.credentials, parser=parts.shared.parser)
        asked = read_struct(change.members, PauseBody)
    until = moment_field("/until", asked.until)
    _check_future(until, call.stamp.received_at)
    command = _command(call, queue, QueueAction.PAUSE)
    return await _applied(
        parts, call, msgspec.structs.replace(command, reason=asked.reason, until_ms=milliseconds(until))
    )


async def resume_queue(parts: JobParts, call: Call) -> web.Response:
    """Resume a queue that was paused."""
    return await _applied(parts, call, _command(call, await _existing(parts, call), QueueAction.RESUME))


async def configure_queue(parts: JobParts, call: Call) -> web.Response:
    """Set the limits of a queue; create it where it is missing."""
    queue = call.path["queue"]
    if fault := queue_fault(queue):
        raise InvalidPath([Fault(pointer="", detail=f"the queue in the path must be {fault}")])
    task = ParseChange(body=await read_body(call))
    change: PreparedChange = await parse_body(task, call.credentials, parser=parts.shared.parser)
    asked = read_struct(change.members, QueueBody)
    command = msgspec.structs.replace(
        _command(call, queue, QueueAction.CONFIGURE),
        max_running=asked.max_running,
        max_running_per_tenant=asked.max_running_per_tenant,
        step_s=float(asked.step_s),
    )
    response = await _applied(parts, call, command)
    parts.queues.forget()
    return response


async def _existing(parts: JobParts, call: Call) -> str:
    queue = call.path["queue"]
    if queue not in await parts.queues.names():
        raise NotFound("no such queue")
    return queue


def _check_future(until: datetime | None, now: datetime) -> None:
    if until is not None and until <= now:
        raise Invalid([Fault(pointer="/until", detail="in the past")])


def _command(call: Call, queue: str, action: QueueAction) -> ChangeQueue:
    return ChangeQueue(
        tenant=call.principal.tenant, queue=queue, command_id=new_id(), action=action, by=call.principal.key_id
    )


async def _applied(parts: JobParts, call: Call, command: ChangeQueue) -> web.Response:
    place, applied = await parts.changes.apply(command, call.stamp)
    return answer(ChangeAnswer(target=command.queue, wal_id=place.wal_id, applied=applied), status=202)
