"""One worker that sends user events in batches: what a gateway could not take yet is sent again, the rest is done."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count

from deploy.load.events import USER_EVENTS_PATH, EventSource, OutgoingEvent
from deploy.load.ledger import Ledger, Outcome
from deploy.load.tally import Tally
from deploy.load.worker import CATCH_UP_MAX_S, Budget
from gateway.client import Bounds
from gateway.client.delivery import Delivery, Request
from gateway.client.errors import Refused, SendAgainLater

PATH = f"{USER_EVENTS_PATH}/batch"


async def work_in_batches(
    source: EventSource,
    *,
    batch: int,
    delivery: Delivery,
    bounds: Bounds,
    budget: Budget,
    rate_per_s: float,
    tally: Tally,
    ledger: Ledger,
    on_settled: Callable[[], None],
) -> None:
    """Send what *source* has, *batch* events a request, until it, or *budget*, is used up."""
    due_s = time.monotonic()
    while events := _taken(source, budget, batch):
        outcomes = await _send(events, delivery, bounds, tally)
        for event in events:
            await asyncio.to_thread(ledger.append, event, outcomes[event.event_id])
            on_settled()
        if rate_per_s:
            due_s = max(due_s + len(events) / rate_per_s, time.monotonic() - CATCH_UP_MAX_S)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))


def _taken(source: EventSource, budget: Budget, batch: int) -> Sequence[OutgoingEvent]:
    events: list[OutgoingEvent] = []
    while len(events) < batch and (event := source.next()) is not None and budget.take():
        events.append(event)
        source.settle(accepted=True)  # one that is refused leaves the others as they are
    return events


async def _send(
    events: Sequence[OutgoingEvent], delivery: Delivery, bounds: Bounds, tally: Tally
) -> Mapping[str, Outcome]:
    tally.sent += len(events)
    outcomes: dict[str, Outcome] = {}
    waiting, in_doubt = list(events), False
    deadline_s = time.monotonic() + bounds.give_up_after_s
    for attempt in count():
        began_s, retry_after_s = time.monotonic(), 0.0
        body = b"[" + b",".join(event.body for event in waiting) + b"]"
        try:
            results = await delivery.attempt_batch(
                Request(method="POST", path=PATH, body=body), event_count=len(waiting)
            )
        except Refused as refused:
            tally.count_error(refused.code, refused.detail)
            break
        except SendAgainLater as answer:
            retry_after_s, in_doubt = answer.retry_after_s, in_doubt or answer.in_doubt
            if answer.in_doubt:
                tally.count_error(answer.code, answer.detail)
            else:
                tally.backpressure += 1
        else:
            tally.latencies_s.append(time.monotonic() - began_s)
            for event, result in zip(waiting, results, strict=True):
                if result.status in ("accepted", "duplicate"):
                    outcomes[event.event_id] = Outcome.OK
                elif result.status == "rejected":
                    tally.count_error(result.code, result.explanation)
                    outcomes[event.event_id] = Outcome.FAIL
                else:
                    in_doubt = True  # a record that was not acknowledged may be in the log
            waiting = [event for event in waiting if event.event_id not in outcomes]
        pause_s = bounds.pause_s(attempt, retry_after_s)
        if not waiting or time.monotonic() + pause_s > deadline_s:
            break
        await asyncio.sleep(pause_s)
    outcomes |= dict.fromkeys((event.event_id for event in waiting), Outcome.INFO if in_doubt else Outcome.FAIL)
    counts = list(outcomes.values())
    tally.accepted += counts.count(Outcome.OK)
    tally.refused += counts.count(Outcome.FAIL)
    tally.in_doubt += counts.count(Outcome.INFO)
    return outcomes
