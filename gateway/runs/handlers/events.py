"""Events of a run: taken in, and read back."""

from collections.abc import Sequence
from datetime import datetime

from aiohttp import web
from msgspec import UNSET, UnsetType

from gateway.errors import RETRYABLE, Refused
from gateway.http.answers import answer, found
from gateway.http.body import read_body
from gateway.http.call import Call
from gateway.http.child.parsing import parse_body_currently
from gateway.http.paging import read_flag, read_limit, read_word
from gateway.limits.throttle import Charge
from gateway.runs.handlers.answers import EventAccepted, EventPage, limited, page, sequencing
from gateway.runs.parameters import read_seq_cursor, seq_cursor
from gateway.runs.parsing.bodies import check_run_id
from gateway.runs.parsing.offers import Offer, Origin
from gateway.runs.parsing.tasks import ParseEvent
from gateway.runs.parts import RunParts
from gateway.runs.sequence.sequencer import Taken
from gateway.runs.store import EventFilter
from schemas.kafka.places import RecordPlace


async def accept_event(parts: RunParts, call: Call) -> web.Response:
    """Accept one event; 202 promises that it is in the log, not that it is processed."""
    run_id, follower = check_run_id(call.path["run_id"]), parts.waiting.read(call)
    parts.shared.throttle.turn_away(1)
    task = ParseEvent(body=await read_body(call), origin=origin_of(call, run_id))
    offer = await parse_body_currently(task, call.credentials, parts.shared.credentials, parser=parts.shared.parser)
    charge, (taken,) = await take(parts, call, run_id, [offer])
    if isinstance(taken, Refused):
        raise taken
    receipt = await acknowledged(taken, offer, charge)
    document = EventAccepted(
        status=taken.status,
        wal_id=receipt.wal_id,
        seq=offer.event.seq,
        sequence=sequencing(taken),
        waited=await parts.waiting.past(follower, receipt),
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


async def take(
    parts: RunParts, call: Call, run_id: str, offers: Sequence[Offer]
) -> tuple[Charge, Sequence[Taken | Refused]]:
    """
    Charge *offers* and hand them to the log; see `Sequencer.take`. What could not be handed over is given back.

    Raises:
        OverLimit, SlowedDown: see `Throttle.charge_events`.
    """
    agents = _by_agent(offers)
    charge = parts.shared.throttle.charge_events(run_id, agents, call.principal, call.credentials)
    outcomes = await parts.sequencer.take((call.principal.tenant, run_id), offers)
    handed_over = sum(not isinstance(outcome, RETRYABLE) for outcome in outcomes)
    if handed_over < len(offers):
        charge.give_back(_by_agent(offers[handed_over:]))
    return charge, outcomes


async def acknowledged(taken: Taken, offer: Offer, charge: Charge) -> RecordPlace:
    """
    Return the place of *offer*'s record. Raises as `Taken.acknowledged`, and then what it was charged is given back.
    """
    try:
        return await taken.acknowledged()
    except Refused:
        charge.give_back({offer.agent_id: 1})
        raise


def _by_agent(offers: Sequence[Offer]) -> dict[str, int]:
    """Return how many events each agent offers; `Counter` takes four times as long over a single one."""
    counts: dict[str, int] = {}
    for offer in offers:
        counts[offer.agent_id] = counts.get(offer.agent_id, 0) + 1
    return counts


def origin_of(call: Call, run_id: str) -> Origin:
    """Return where the events of *call* come from."""
    return Origin(run_id=run_id, principal=call.principal, stamp=call.stamp)
