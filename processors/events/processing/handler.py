"""
Slices to functions: the events of a key one after the other, keys side by side.

The row goes first: a slice waits until its events are stored, so that the end of each call has a row to stand in. An
event that will not be stored, since it is a dead letter of the group that stores them, is one of this group too. What
was called and noted before is not called again, unless it is replayed or was sent back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

import structlog

from processors.events.processing.functions import CallFailed, Function, call, incoming
from processors.events.processing.rows import CallEnd, EventState, Place, ProcessedRows, RowState
from processors.runtime.contract import Arrival, FailedRecord, Outcome, Settled, Tally
from processors.runtime.errors import Transient
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.receiving import received_at
from schemas.errors import Reason
from schemas.events.records import UserEvent
from schemas.events.topics import EVENTS

ROW_POLL_S = 0.02
ROW_PATIENCE_S = 2.0  # the group that stores rows is nearly always a moment ahead or behind
NOTED_EVERY_S = 0.1  # while calls go on, so that a slow one holds up the status of no other event

Failed = FailedRecord[UserEvent]

log = structlog.get_logger()


class CallLimits(NamedTuple):
    """Limits on calls: the number that run at once, and the duration of each."""

    concurrency: int
    soft_s: float
    hard_s: float


class Processing:
    """The handler of the processing group."""

    def __init__(
        self,
        functions: Mapping[str, Function],
        rows: ProcessedRows,
        *,
        stored_until: Callable[[int], Awaitable[int]],
        limits: CallLimits,
        tier_count: int,
        repeats: bool = False,
        row_patience_s: float = ROW_PATIENCE_S,
    ) -> None:
        """
        Call *functions*, by type of event, within *limits*; a record may wait in *tier_count* delay tiers.

        *stored_until* returns up to which offset of a partition events are stored. One that *repeats* calls
        functions for events that were processed before.
        """
        self._functions = functions
        self._rows = rows
        self._stored_until = stored_until
        self._limits = limits
        self._tier_count = tier_count
        self._repeats = repeats
        self._row_patience_s = row_patience_s
        self._slots = asyncio.Semaphore(limits.concurrency)

    async def process(self, arrivals: Sequence[Arrival[UserEvent]]) -> Settled[UserEvent]:
        """Call the functions of a slice; see `Handler`."""
        tally = Tally()
        wanted: list[Arrival[UserEvent]] = []
        for arrival in arrivals:
            if arrival.rejection is not None:
                tally[Outcome.REJECTED, arrival.rejection.reason] += 1
            elif arrival.record.type not in self._functions:
                tally[Outcome.FILTERED, None] += 1
            else:
                wanted.append(arrival)
        by_key: dict[bytes | None, list[tuple[Arrival[UserEvent], RowState]]] = {}
        stored, dead = await self._with_rows(wanted)
        for arrival, row in stored:
            if (outcome := self._passed_by(arrival, row)) is not None:
                tally[outcome, None] += 1
            else:
                by_key.setdefault(arrival.raw.key, []).append((arrival, row))
        failed = sorted(await self._call_all(list(by_key.values())), key=lambda each: each.arrival.raw.offset)
        tally[Outcome.DONE, None] += sum(map(len, by_key.values())) - len(failed)
        return Settled(tally, retry_later=failed, dead=dead)

    async def _call_all(self, keys: Sequence[Sequence[tuple[Arrival[UserEvent], RowState]]]) -> Sequence[Failed]:
        """
        Call the functions for the events of each key in order, keys side by side; return the failed ones.

        The ends of calls are stored together while calls go on: a transaction for each would cost more than most calls.
        """
        calls = _Calls()
        try:
            async with asyncio.TaskGroup() as group:
                waiting = {group.create_task(self._process_in_order(of_key, calls)) for of_key in keys}
                while waiting:
                    _, waiting = await asyncio.wait(waiting, timeout=NOTED_EVERY_S)
                    if ends := calls.take_ends():
                        reach(Failpoint.BEFORE_COMMIT)
                        await self._rows.note(ends)
        except BaseExceptionGroup as errors:  # the others are cancelled, and the slice comes again
            raise errors.exceptions[0] from None
        return calls.failed

    async def _with_rows(
        self, wanted: Sequence[Arrival[UserEvent]]
    ) -> tuple[Sequence[tuple[Arrival[UserEvent], RowState]], Sequence[Failed]]:
        """
        Return *wanted* with their rows, and those that have none and will have none.

        Raises:
            Transient: one is not stored yet.
        """
        found: dict[Place, RowState] = {}
        missing, patient_until_s = wanted, monotonic() + self._row_patience_s
        while missing:
            found |= await self._rows.states([_place(arrival) for arrival in missing])
            missing = [arrival for arrival in wanted if _place(arrival) not in found]
            if not missing or monotonic() >= patient_until_s:
                break
            await asyncio.sleep(ROW_POLL_S)
        if missing:
            # Records of a delay tier come from several partitions.
            until = {number: await self._stored_until(number) for number in {each.raw.partition for each in missing}}
            if late := [each.raw.place.wal_id for each in missing if each.raw.offset >= until[each.raw.partition]]:
                raise Transient(f"{late[0]} is not stored yet: its row comes first")
            # Once more: they may have been stored since the first look.
            found |= await self._rows.states([_place(arrival) for arrival in missing])
        stored = [(arrival, found[_place(arrival)]) for arrival in wanted if _place(arrival) in found]
        return stored, [
            FailedRecord(arrival, Reason.ROW_MISSING, f"its event was not stored; redrive it from {EVENTS.name} first")
            for arrival in missing
            if _place(arrival) not in found
        ]

    def _passed_by(self, arrival: Arrival[UserEvent], row: RowState) -> Outcome | None:
        """Return the outcome of a record that no function is called for; None if one is."""
        if row.state is EventState.NOT_STORED:
            return Outcome.FILTERED
        is_first = not (self._repeats or arrival.raw.attempt or arrival.raw.tier)
        if row.state is EventState.PROCESSED and is_first and row.was_called:
            return Outcome.REDELIVERY
        return None

    async def _process_in_order(self, of_key: Sequence[tuple[Arrival[UserEvent], RowState]], calls: "_Calls") -> None:
        for arrival, row in of_key:
            await self._process(arrival, row, calls)

    async def _process(self, arrival: Arrival[UserEvent], row: RowState, calls: "_Calls") -> None:
        event, place = arrival.record, _place(arrival)
        given = incoming(event, received_at=received_at(arrival), attempt=row.attempts + 1)
        async with self._slots:
            try:
                result = await call(
                    self._functions[event.type],
                    given,
                    soft_limit_s=self._limits.soft_s,
                    hard_limit_s=self._limits.hard_s,
                )
            except CallFailed as failure:
                self._note_failure(arrival, failure, calls)
            else:
                calls.ends.append(CallEnd(place, EventState.PROCESSED, result=result))

    def _note_failure(self, arrival: Arrival[UserEvent], failure: CallFailed, calls: "_Calls") -> None:
        is_last = arrival.raw.tier >= self._tier_count
        log.warning(
            "processing failed",
            wal_id=arrival.raw.place.wal_id,
            type=arrival.record.type,
            error_class=failure.error_class,
            is_last=is_last,
        )
        state = EventState.FAILED if is_last else EventState.PENDING
        calls.ends.append(CallEnd(_place(arrival), state, error_class=failure.error_class, error=failure.text))
        detail = f"{failure.error_class}: {failure.text}"
        calls.failed.append(FailedRecord(arrival, Reason.PROCESSING_FAILED, detail))


@dataclass(slots=True)
class _Calls:
    """The calls of one slice: their ends that are not stored yet, and the events that failed."""

    ends: list[CallEnd] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    def take_ends(self) -> Sequence[CallEnd]:
        """Return the ends that are not stored yet, and forget them."""
        ends, self.ends = self.ends, []
        return ends


def _place(arrival: Arrival[UserEvent]) -> Place:
    return arrival.raw.partition, arrival.raw.offset
