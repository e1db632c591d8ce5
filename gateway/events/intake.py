"""
The way from prepared events to records in the log: one burst a request, and an outcome for each event.

Records are handed over in the order of the request and acknowledged together, so that events with one key keep that
order. The first that the log does not take ends the burst: those behind it are to be sent again too, or they might
overtake it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.errors import RETRYABLE, HttpError
from gateway.events.memory import AcceptedEvents
from gateway.events.parsing.prepared import PreparedUserEvent, UserEventOrigin
from gateway.kafka.publisher import ProducerDelivery, Publisher
from gateway.limits.throttle import USER_EVENTS, Charge, Throttle
from schemas.access.credentials import Credentials
from schemas.kafka.places import RecordPlace


@dataclass(frozen=True, slots=True)
class Intake:
    """The intake that publishes events to the log, at the rate at which their rows are stored."""

    publisher: Publisher
    throttle: Throttle
    accepted: AcceptedEvents

    async def submit(
        self, events: Sequence[PreparedUserEvent], origin: UserEventOrigin, credentials: Credentials
    ) -> tuple[Charge, Sequence[RecordPlace | HttpError]]:
        """
        Return the place of each event in the log, or why it is not known to be there.

        Raises:
            OverLimit, SlowedDown: see `Throttle.charge_user_events`. Nothing was written.
        """
        charge = self.throttle.charge_user_events(len(events), origin.principal, credentials)
        outcomes = await _places(self._handed_over(events))
        charge.give_back({USER_EVENTS: sum(isinstance(outcome, HttpError) for outcome in outcomes)})
        for event, outcome in zip(events, outcomes, strict=True):
            if isinstance(outcome, RecordPlace):
                self.accepted.add(
                    event,
                    outcome,
                    origin.principal,
                    task_id=origin.task_id,
                    received_at=origin.stamp.received_at,
                )
        return charge, outcomes

    def _handed_over(self, events: Sequence[PreparedUserEvent]) -> Sequence[ProducerDelivery | HttpError]:
        deliveries: list[ProducerDelivery | HttpError] = []
        for event in events:
            try:
                deliveries.append(self.publisher.submit(event.record))
            except HttpError as error:
                if isinstance(error, RETRYABLE):
                    return deliveries + [error] * (len(events) - len(deliveries))
                deliveries.append(error)
        return deliveries


async def _places(deliveries: Sequence[ProducerDelivery | HttpError]) -> Sequence[RecordPlace | HttpError]:
    outcomes: list[RecordPlace | HttpError] = []
    for delivery in deliveries:  # one report brings most of them: nearly always there is nothing to wait for
        outcomes.append(await _place(delivery))
        if isinstance(outcomes[-1], HttpError):
            break
    # What is overdue has a second more: together, since one after the other they would hold the answer for minutes.
    return outcomes + await asyncio.gather(*(_place(each) for each in deliveries[len(outcomes) :]))


async def _place(delivery: ProducerDelivery | HttpError) -> RecordPlace | HttpError:
    if isinstance(delivery, HttpError):
        return delivery
    try:
        return await delivery.acknowledged()
    except HttpError as error:
        return error
