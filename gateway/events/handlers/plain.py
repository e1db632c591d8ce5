"""The plain door, `POST /events`: an event as a bare document, or CloudEvents in three modes."""

from dataclasses import replace

from aiohttp import web

from gateway.errors import Problem
from gateway.events.handlers.submitting import origin_of, submit_all, submit_one, taken_by
from gateway.events.parsing import cloudevents
from gateway.events.parsing.tasks import Form, ParseBinaryEvent, ParseUserEvent, ParseUserEvents
from gateway.events.parts import UserEventParts
from gateway.events.views import PlainEventAccepted, UserBatchAnswer
from gateway.http.answers import answer, limited
from gateway.http.bodies import Body, MediaType
from gateway.http.body import read_body, receive
from gateway.http.call import Call

TAKEN = (MediaType.JSON, MediaType.CLOUDEVENT, MediaType.CLOUDEVENTS)
QUEUE_FULL = "Queue full, please retry later"


async def accept_plain(parts: UserEventParts, call: Call) -> web.Response:
    """Accept an event `{id, type, data, timestamp?}`, or CloudEvents: structured, batched, or binary."""
    parts.intake.throttle.check_admission(1)
    task = await _task(parts, call)
    if isinstance(task, ParseUserEvents):
        results, places, charge = await submit_all(parts, call, task)
        document = UserBatchAnswer(task_id=task.origin.task_id, results=results)
        return limited(answer(document, status=202 if len(places) == len(results) else 207), charge)
    event, place, charge = await submit_one(parts, call, task)
    accepted = PlainEventAccepted(id=event.event_id, task_id=task.origin.task_id, wal_id=place.wal_id)
    return limited(answer(accepted, status=202), charge)


def as_plain(problem: Problem) -> Problem:
    """Return a refusal with the text that clients of this door read in `error`."""
    is_full = problem.status == web.HTTPTooManyRequests.status_code
    return replace(problem, error=QUEUE_FULL if is_full else problem.detail)


async def _task(parts: UserEventParts, call: Call) -> ParseUserEvent | ParseUserEvents | ParseBinaryEvent:
    headers, origin = call.request.headers, origin_of(call)
    if cloudevents.is_binary(headers):
        return ParseBinaryEvent(
            body=Body(
                received=await receive(call), media_type=MediaType.JSON, coding=None, bytes_max=call.body.bytes_max
            ),
            attributes=cloudevents.attributes_of(headers),
            content_type=headers.get("Content-Type", ""),
            origin=origin,
        )
    body = await read_body(call, taken_by(parts, TAKEN))
    if body.media_type is MediaType.CLOUDEVENTS:
        return ParseUserEvents(body=body, form=Form.CLOUDEVENT, origin=origin)
    form = Form.CLOUDEVENT if body.media_type is MediaType.CLOUDEVENT else Form.PLAIN
    return ParseUserEvent(body=body, form=form, origin=origin)
