"""A bounded memory of recently accepted events, which this gateway can show before they are stored."""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime

from gateway.events.parsing.prepared import PreparedUserEvent
from gateway.events.store import Reader
from gateway.events.views import TaskEvent, UserEventView
from schemas.access.credentials import Principal
from schemas.kafka.places import RecordPlace

EVENTS_MAX = 20_000


class AcceptedEvents:
    """The newest events that this gateway accepted, and the requests that brought them."""

    def __init__(self, *, events_max: int = EVENTS_MAX) -> None:
        """Remember at most *events_max* events."""
        self._events_max = events_max
        self._events: OrderedDict[tuple[str, str], UserEventView] = OrderedDict()  # by tenant and event id
        self._tasks: OrderedDict[tuple[str, str], list[UserEventView]] = OrderedDict()  # by tenant and task id

    def add(
        self, event: PreparedUserEvent, place: RecordPlace, principal: Principal, *, task_id: str, received_at: datetime
    ) -> None:
        """Remember an event that is in the log at *place*."""
        view = UserEventView(
            event_id=event.event_id,
            source=event.source,
            user_id=event.user_id,
            type=event.type,
            name=event.name,
            occurred_at=event.occurred_at,
            received_at=received_at,
            status="accepted",
            authenticated="key" if principal.user_id is None else "token",
            user_verified=event.user_verified,
            task_id=task_id,
            wal_id=place.wal_id,
        )
        known = principal.tenant, event.event_id
        self._events[known] = view
        self._events.move_to_end(known)
        self._tasks.setdefault((principal.tenant, task_id), []).append(view)
        while len(self._events) > self._events_max:
            self._events.popitem(last=False)
        while len(self._tasks) > self._events_max:
            self._tasks.popitem(last=False)

    def event(self, reader: Reader, event_id: str) -> UserEventView | None:
        """Return the newest event of that id that *reader* may see; None if none is remembered."""
        view = self._events.get((reader.tenant, event_id))
        return view if view is not None and _may_see(reader, view) else None

    def task(self, reader: Reader, task_id: str) -> Sequence[TaskEvent]:
        """Return the events of a request that *reader* may see; empty if none is remembered."""
        views = self._tasks.get((reader.tenant, task_id), ())
        return [
            TaskEvent(event_id=view.event_id, status="accepted", wal_id=view.wal_id)
            for view in views
            if _may_see(reader, view)
        ]


def _may_see(reader: Reader, view: UserEventView) -> bool:
    return reader.user_id is None or (view.user_verified and view.user_id == reader.user_id)
