"""Events of a run: taken in, and read back."""

from collections.abc import Sequence
from datetime import datetime

from aiohttp import web
from msgspec import UNSET, UnsetType

from gateway.errors import RETRYABLE, HttpError
from gateway.http.answers import answer, found, limited, page
from gateway.http.body import read_body
from gateway.http.call import Call
from gateway.http.child.parsing import parse_body_with_fresh_credentials
from gateway.http.paging import read_flag, read_limit, read_word
from gateway.limits.throttle import Charge
from gateway.runs.handlers.answers import EventAccepted, EventPage, sequencing
from gateway.runs.parameters import read_seq_cursor, seq_cursor
from gateway.runs.parsing.bodies import check_run_id
from gateway.runs.parsing.prepared import Origin, PreparedEvent
from gateway.runs.parsing.tasks import ParseEvent
from gateway.runs.parts import RunParts
from gateway.runs.sequence.sequencer import Submission
from gateway.runs.store import EventFilter
from schemas.kafka.places import RecordPlace


async def accept_event(parts: RunParts, call: Call) -> web.Response:
    """Accept one event; 202 promises that it is in the log, not that it is processed."""
    run_id, follower = check_run_id(call.path["run_id"]), parts.waiting.read(call)
    parts.shared.throttle.check_admission(1)
    task = ParseEvent(body=await read_body(call), origin=origin_of(call, run_id))
    event = await parse_body_with_fresh_credentials(
        task, call.credentials, parts.shared.credentials, parser=parts.shared.parser
    )
    charge, (submission,) = await submit(parts, call, run_id, [event])
    if isinstance(submission, HttpError):
        raise submission
    place = await acknowledged(submission, event, charge)
    document = EventAccepted(
        status=submission.status,
        wal_id=place.wal_id,
        seq=event.identity.seq,
        sequence=sequencing(submission),
        waited=await parts.waiting.past(follower, place),
    )
    return limited(answer(document, status=202), charge)


async def list_events(parts: RunParts, call: Call) -> web.Response:
    """List a run's events by seq, a page at a time."""
    tenant, run_id = call.principal.tenant, check_run_id(call.path["run_id"])
    admitted = EventFilter(type=read_word(call.request.query, "type"), actor=read_word(call.request.query, "actor"))
    after_seq, limit = read_seq_cursor(call.request.query), read_limit(call.request.query)
    resolve = read_flag(call.request.query, "resolve")
    live_cursor = parts.live.cursor(tenant, run_id)  # before the page is read
    events, more = await parts.store.events(tenant, run_id, admitted, after_seq=after_seq, limit=limit)
    removed_at: datetime | UnsetType = UNSET
    if not events or events[0].seq > after_seq + 1:
        run = found(await parts.store.run(tenant, run_id), "no such run")
        removed_at = run.events_removed_at if run.is_removed and run.events_removed_at else UNSET
    if resolve:
        resolved = await parts.pages.resolve(events)
        events, more = resolved, more or len(resolved) < len(events)
    document = EventPage(
        events=events,
        next_cursor=seq_cursor(events[-1].seq) if more else None,
        live_cursor=live_cursor,
        events_removed_at=removed_at,
    )
    return page(call.request, document)


async def submit(
    parts: RunParts, call: Call, run_id: str, events: Sequence[PreparedEvent]
) -> tuple[Charge, Sequence[Submission | HttpError]]:
    """
    Charge *events* and submit them; see `Sequencer.submit`. The charge for what was not submitted is given back.

    Raises:
        OverLimit, SlowedDown: see `Throttle.charge_events`.
    """
    agents = _by_agent(events)
    charge = parts.shared.throttle.charge_events(run_id, agents, call.principal, call.credentials)
    outcomes = await parts.sequencer.submit((call.principal.tenant, run_id), events)
    submitted = sum(not isinstance(outcome, RETRYABLE) for outcome in outcomes)
    if submitted < len(events):
        charge.give_back(_by_agent(events[submitted:]))
    return charge, outcomes


async def acknowledged(submission: Submission, event: PreparedEvent, charge: Charge) -> RecordPlace:
    """
    Return the place of *event*'s record. Raises as `Submission.acknowledged`, and then gives back what it was charged.
    """
    try:
        return await submission.acknowledged()
    except HttpError:
        charge.give_back({event.agent_id: 1})
        raise


def _by_agent(events: Sequence[PreparedEvent]) -> dict[str, int]:
    """Return how many events each agent sends; `Counter` takes four times as long over a single one."""
    counts: dict[str, int] = {}
    for event in events:
        counts[event.agent_id] = counts.get(event.agent_id, 0) + 1
    return counts


def origin_of(call: Call, run_id: str) -> Origin:
    """Return the origin of the events of *call*."""
    return Origin(run_id=run_id, principal=call.principal, stamp=call.stamp)
