"""The doors of our own form: one event, or a batch."""

from aiohttp import web
from msgspec import UNSET

from gateway.events.handlers.submitting import origin_of, submit_all, submit_one, taken_by
from gateway.events.parsing.tasks import Form, ParseUserEvent, ParseUserEvents
from gateway.events.parts import UserEventParts
from gateway.events.views import UserBatchAnswer, UserEventAccepted
from gateway.http.answers import answer, limited
from gateway.http.bodies import BATCHES, DOCUMENTS
from gateway.http.body import read_body
from gateway.http.call import Call


async def accept_user_event(parts: UserEventParts, call: Call) -> web.Response:
    """Accept one event; 202 promises that it is in the log, not that it is processed."""
    follower = parts.waiting.read(call)
    parts.intake.throttle.check_admission(1)
    task = ParseUserEvent(body=await read_body(call, taken_by(parts, DOCUMENTS)), form=Form.API, origin=origin_of(call))
    event, place, charge = await submit_one(parts, call, task)
    document = UserEventAccepted(
        event_id=event.event_id,
        task_id=task.origin.task_id,
        wal_id=place.wal_id,
        waited=await parts.waiting.past(follower, place),
    )
    return limited(answer(document, status=202), charge)


async def accept_user_events(parts: UserEventParts, call: Call) -> web.Response:
    """Accept up to 100 events: 202 if all are in the log, else 207 with a result for each."""
    follower = parts.waiting.read(call)
    task = ParseUserEvents(body=await read_body(call, taken_by(parts, BATCHES)), form=Form.API, origin=origin_of(call))
    results, places, charge = await submit_all(parts, call, task)
    document = UserBatchAnswer(
        task_id=task.origin.task_id,
        results=results,
        waited=await parts.waiting.past(follower, places[-1]) if places else UNSET,
    )
    return limited(answer(document, status=202 if len(places) == len(results) else 207), charge)
