"""
The gateway's memory of one run. Pure.

It is a cache of the log. Other gateways and direct producers write as well, so memory may lag behind.
"""

from enum import Enum, auto
from itertools import chain

import msgspec

from gateway.kafka.publisher import ProducerDelivery
from gateway.runs.parsing.prepared import EventIdentity
from schemas.kafka.places import RecordPlace
from schemas.runs.records import RunStatus

RunKey = tuple[str, str]  # tenant, run_id: a run id is unique within its tenant only

REMEMBERED_MAX = 16  # acknowledged events of a run; whatever is older is in the log


class SentRecord(msgspec.Struct, kw_only=True):
    """A record of the run: in the log, or on its way, and then `delivery` says what becomes of it."""

    delivery: ProducerDelivery | None = None
    place: RecordPlace | None = None

    async def acknowledged(self) -> RecordPlace:
        """Return the record's place. Raises as `ProducerDelivery.acknowledged`."""
        if self.place is None and self.delivery is not None:
            return await self.delivery.acknowledged()
        assert self.place is not None
        return self.place


class KnownEvent(SentRecord, kw_only=True):
    """An event of the run."""

    sha256: bytes
    idempotency_key: str | None


class RunEnd(SentRecord, kw_only=True):
    """The record that closed the run, and the run's final status."""

    status: RunStatus


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run in the log and the store, as far as the requested events depend on it."""

    head: int = 0  # the highest seq
    entries: dict[int, KnownEvent] = {}  # by seq
    closing: RunEnd | None = None
    read_to: int = 0  # the offset in the run's partition below which this is complete
    removed: bool = False  # retention has removed events of the run: the store does not show them


class Unread(Enum):
    """The reason why the state of a run in the log is not known."""

    NOT_YET = auto()
    FAILED = auto()  # the log or the store did not answer in time


class Run:
    """One run as it is remembered."""

    def __init__(self) -> None:
        """Start without any knowledge of the run."""
        self.closing: RunEnd | None = None
        self.verified = False  # whether the log was read since there last was a reason to doubt
        self.in_flight: dict[int, KnownEvent] = {}
        self.users = 0  # requests that decide by it now
        self._logged = 0  # the highest seq known to be in the log
        self._sent = 0  # the highest of `in_flight`
        self._remembered: dict[int, KnownEvent] = {}  # the oldest acknowledged first

    @property
    def head(self) -> int:
        """Return the highest seq that is in the log or on its way."""
        return max(self._logged, self._sent)

    @property
    def at_rest(self) -> bool:
        """Return True if it can be forgotten: nothing is on its way, and no request depends on it."""
        closing = self.closing is not None and self.closing.place is None
        return not (self.users or self.in_flight or closing)

    @property
    def in_doubt(self) -> bool:
        """Return True if it is unknown whether something on its way was written."""
        # Patience ends in the order in which records were sent: where the oldest is not overdue, none is.
        oldest = next(iter(self.in_flight.values()), None)
        on_its_way = (oldest, self.closing)
        return any(each is not None and each.delivery is not None and each.delivery.overdue for each in on_its_way)

    def may_go_on_with(self, event: EventIdentity) -> bool:
        """Return True if *event* is the next one, as far as is remembered."""
        return self.verified and self.closing is None and event.seq == self.head + 1

    def find(self, event: EventIdentity, state: RunState | Unread) -> KnownEvent | None:
        """Return the entry that *event* repeats or collides with: of its seq, or else of its idempotency key."""
        # What was looked up goes before what is remembered: another gateway's record may have come before ours.
        known = state.entries if isinstance(state, RunState) else {}
        entry = self.in_flight.get(event.seq) or known.get(event.seq) or self._remembered.get(event.seq)
        if entry is None and event.idempotency_key is not None:
            entries = chain(self.in_flight.values(), known.values(), self._remembered.values())
            entry = next((each for each in entries if each.idempotency_key == event.idempotency_key), None)
        return entry

    def learn(self, state: RunState) -> None:
        """Take over what the log and the store hold of the run as a whole; what is on its way stays."""
        self._logged = max(self._logged, state.head)
        if state.closing is not None and (self.closing is None or self.closing.place is not None):
            self.closing = state.closing
        self.verified = True

    def sent(self, seq: int, entry: KnownEvent) -> None:
        """Note that *entry* is on its way."""
        self.in_flight[seq] = entry
        self._sent = max(self._sent, seq)

    def reported(self, seq: int, place: RecordPlace | None) -> None:
        """Note the fate of what was on its way as *seq*; None: it is not in the log, as far as is known."""
        entry = self.in_flight.pop(seq)
        if seq == self._sent:
            self._sent = max(self.in_flight, default=0)
        if place is None:
            self.verified = False
            return
        entry.place, entry.delivery = place, None
        self._logged = max(self._logged, seq)
        self._remembered[seq] = entry
        if len(self._remembered) > REMEMBERED_MAX:
            del self._remembered[next(iter(self._remembered))]

    def closing_reported(self, place: RecordPlace | None) -> None:
        """Note the fate of the finalization that was on its way."""
        if place is None:
            self.closing, self.verified = None, False
        elif self.closing is not None:
            self.closing.place, self.closing.delivery = place, None
