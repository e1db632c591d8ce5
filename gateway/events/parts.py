"""The dependencies of the handlers of user events."""

from dataclasses import dataclass

from gateway.events.intake import Intake
from gateway.events.memory import AcceptedEvents
from gateway.events.store import UserEventStore
from gateway.http.feature import Shared
from gateway.http.waiting import Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEventParts:
    """The dependencies of the handlers of user events."""

    shared: Shared
    intake: Intake
    accepted: AcceptedEvents
    store: UserEventStore
    waiting: Waiting
