"""The way from prepared events to records in the log: one burst a request, and an outcome for each event."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.errors import HttpError
from gateway.events.memory import AcceptedEvents
from gateway.events.parsing.prepared import PreparedUserEvent, UserEventOrigin
from gateway.kafka.bursts import publish_all
from gateway.kafka.publisher import Publisher
from gateway.limits.throttle import UNNAMED, Charge, Throttle
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
            OverLimit, SlowedDown: see `Throttle.charge_records`. Nothing was written.
        """
        charge = self.throttle.charge_records(len(events), origin.principal, credentials)
        outcomes = await publish_all(self.publisher, [event.record for event in events])
        charge.give_back({UNNAMED: sum(isinstance(outcome, HttpError) for outcome in outcomes)})
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
