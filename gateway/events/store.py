"""Port for reading stored user events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from gateway.events.views import TaskEvent, UnprocessedView, UserEventView
from gateway.kafka.effect import Effect
from schemas.kafka.places import RecordPlace

COUNTED_MAX = 10_000  # of a total that is shown
PAGE_BYTES_MAX = 8 * 1024 * 1024  # of events; a page ends after the one that passes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """The owner of the events that may be read."""

    tenant: str
    user_id: str | None  # None: every user's; else this one's, of those that are shown to users


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEventFilter:
    """A filter of events; None admits all."""

    user_id: str | None = None
    type: str | None = None
    name: str | None = None
    status: str | None = None
    received_from: datetime | None = None
    received_before: datetime | None = None
    properties: Mapping[str, object] = field(default_factory=dict)  # equal to these


@dataclass(frozen=True, slots=True)
class EventPlace:
    """The place of an event in the list: where the next page goes on."""

    received_at: datetime
    partition: int
    offset: int


class UserEventStore(Protocol):
    """
    Reads of one tenant's user events. Each call sees one consistent state.

    Every method raises StoreUnavailable when Postgres is away, slow, or not migrated: answer 503.
    """

    async def events(
        self, reader: Reader, admitted: UserEventFilter, *, after: EventPlace | None, skip: int, limit: int
    ) -> tuple[Sequence[UserEventView], EventPlace | None]:
        """
        Return at most *limit* events behind the first *skip*, the newest first, fewer where they are large.

        Beside them stands the place of the last one; None if no more follow.
        """

    async def count(self, reader: Reader, admitted: UserEventFilter) -> int:
        """Return how many events there are, up to `COUNTED_MAX`."""

    async def event(self, reader: Reader, event_id: str) -> UserEventView | None:
        """Return the newest event of that id; None if the reader has none."""

    async def unprocessed(self, reader: Reader) -> UnprocessedView:
        """Return the state of processing."""

    async def task(self, reader: Reader, task_id: str) -> Sequence[TaskEvent]:
        """Return what is stored of the events of a request; empty if nothing is."""

    async def effect(self, tenant: str, place: RecordPlace, event_sha256: bytes | None) -> Effect | None:
        """Return what the record at *place* came to; None if the tenant has nothing of it from there."""

    async def processing_effect(self, tenant: str, place: RecordPlace, event_sha256: bytes | None) -> Effect | None:
        """Return what processing made of the record at *place*; None if its row does not say."""
