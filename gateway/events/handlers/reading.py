"""User events that are stored, or accepted a moment ago."""

from collections import Counter

from aiohttp import web
from msgspec import UNSET

from gateway.errors import Forbidden, StoreUnavailable
from gateway.events.parameters import event_cursor, read_cursor, read_filter, read_page
from gateway.events.parts import UserEventParts
from gateway.events.store import Reader
from gateway.events.views import TaskEvent, TaskView, UserEventPage
from gateway.http.answers import answer, found, page
from gateway.http.call import Call
from gateway.http.paging import read_limit
from schemas.access.credentials import Principal, Right
from schemas.ids import moment_of_uuid7
from schemas.texts import label_fault

_NO_EVENT = "no such event"
_NO_TASK = "no such request, or none of its events is in the log"


async def list_user_events(parts: UserEventParts, call: Call) -> web.Response:
    """List events, the newest first: a token's own, or the tenant's."""
    reader, query = _reader(call.principal), call.request.query
    admitted = read_filter(query)
    numbered = read_page(query)
    if numbered is None:
        after, limit, skip = read_cursor(query), read_limit(query), 0
    else:
        after, limit, skip = None, numbered.size, numbered.skip
    events, last = await parts.store.events(reader, admitted, after=after, skip=skip, limit=limit)
    document = UserEventPage(
        events=events,
        next_cursor=None if last is None else event_cursor(last),
        page=UNSET if numbered is None else numbered.number,
        size=UNSET if numbered is None else numbered.size,
        total=UNSET if numbered is None else await parts.store.count(reader, admitted),
    )
    return page(call.request, document)


async def show_user_event(parts: UserEventParts, call: Call) -> web.Response:
    """Return one event, whether it is stored yet or not."""
    reader, event_id = _reader(call.principal), call.path["event_id"]
    found(event_id if label_fault(event_id) is None else None, _NO_EVENT)
    accepted = parts.accepted.event(reader, event_id)
    try:
        stored = await parts.store.event(reader, event_id)
    except StoreUnavailable:
        if accepted is None:
            raise
        stored = None
    # One that was accepted later may be stored already, or be another one of the same id: its place decides.
    return answer(found(stored or accepted, _NO_EVENT))


async def show_unprocessed(parts: UserEventParts, call: Call) -> web.Response:
    """Return counts by status, the oldest event that waits, and errors: a user's own, or with `admin` the tenant's."""
    principal = call.principal
    is_admin = Right.ADMIN in principal.rights
    if principal.user_id is None and not is_admin:
        raise Forbidden("the counts of a tenant need the right 'admin'")
    reader = Reader(tenant=principal.tenant, user_id=None if is_admin else principal.user_id)
    return answer(await parts.store.unprocessed(reader))


async def show_task(parts: UserEventParts, call: Call) -> web.Response:
    """Return the outcomes of the events of one request."""
    reader, task_id = _reader(call.principal), call.path["task_id"]
    found(moment_of_uuid7(task_id), _NO_TASK)
    events = await _task_events(parts, reader, task_id)
    found(events or None, _NO_TASK)
    counts = Counter[str](event.status for event in events)
    return answer(
        TaskView(
            task_id=task_id,
            status="accepted" if counts["accepted"] else "processing" if counts["pending"] else "done",
            counts=dict(counts),
            events=events,
        )
    )


async def _task_events(parts: UserEventParts, reader: Reader, task_id: str) -> list[TaskEvent]:
    """Return the events of a request, each with what is known of it, in the order in which they were sent."""
    accepted = {event.wal_id: event for event in parts.accepted.task(reader, task_id)}
    try:
        stored = {event.wal_id: event for event in await parts.store.task(reader, task_id)}
    except StoreUnavailable:
        if not accepted:
            raise
        stored = {}
    return list((accepted | stored).values())


def _reader(principal: Principal) -> Reader:
    """Return the owner of the events that *principal* may read."""
    return Reader(tenant=principal.tenant, user_id=principal.user_id)
