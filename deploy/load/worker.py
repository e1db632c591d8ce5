"""One worker: its events one after the other, each after the answer to the last, at no more than its rate."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from deploy.load.events import EventSource, OutgoingEvent
from deploy.load.ledger import Ledger, Outcome
from deploy.load.tally import Tally
from gateway.client.delivery import Delivery, Request
from gateway.client.errors import Refused, SendAgainLater

CATCH_UP_MAX_S = 1.0  # how much of a delay is made good by sending faster afterwards


@dataclass(slots=True, kw_only=True)
class Budget:
    """The number of events that all workers together may still send; None: no limit. `stop` ends it early."""

    left: int | None
    stop: asyncio.Event

    def take(self) -> bool:
        """Claim one event."""
        if self.stop.is_set() or self.left == 0:
            return False
        if self.left is not None:
            self.left -= 1
        return True


async def work(
    source: EventSource,
    *,
    delivery: Delivery,
    budget: Budget,
    rate_per_s: float,
    tally: Tally,
    ledger: Ledger,
    on_settled: Callable[[], None],
) -> None:
    """Send what *source* has until it, or *budget*, is used up; a *rate_per_s* of 0 sets no pace."""
    due_s = time.monotonic()
    while (event := source.next()) is not None and budget.take():
        outcome = await _send(event, delivery, tally)
        # On disk before the run goes on: whoever reads the ledger after a crash knows what was promised.
        await asyncio.to_thread(ledger.append, event, outcome)
        source.settle(accepted=outcome is Outcome.OK)
        on_settled()
        if rate_per_s:
            due_s = max(due_s + 1 / rate_per_s, time.monotonic() - CATCH_UP_MAX_S)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))


async def _send(event: OutgoingEvent, delivery: Delivery, tally: Tally) -> Outcome:
    def count_retry(answer: SendAgainLater) -> None:
        if answer.in_doubt:
            tally.count_error(answer.code, answer.detail)
        else:
            tally.backpressure += 1

    tally.sent += 1
    request = Request(method="POST", path=event.path, body=event.body)
    try:
        receipt = await delivery.deliver(request, on_retry=count_retry)
    except (Refused, SendAgainLater) as error:
        if isinstance(error, Refused):
            tally.count_error(error.code, error.detail)
        tally.in_doubt += error.in_doubt
        tally.refused += not error.in_doubt
        return Outcome.INFO if error.in_doubt else Outcome.FAIL
    tally.accepted += 1
    tally.duplicates += receipt.duplicate
    tally.latencies_s.append(receipt.elapsed_s)
    return Outcome.OK
