"""
Batches to one sink: each record is taken, refused, or waits, and with it the group's offset.

What is known of a batch that has to wait is remembered, so that what was taken of it is not written again by this
process. While the breaker is open nothing is attempted and nothing moved. Attempts have no limit in number: what ends
them is the sink, or a person.
"""

import random
from asyncio import CancelledError
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import NamedTuple

import structlog

from processors.outbound.breaker import Breaker
from processors.runtime.contract import Arrival, FailedRecord, Outcome, Settled, Tally
from processors.runtime.failpoints import Failpoint, reach
from processors.sinks.contract import (
    BatchRefused,
    BatchTooLarge,
    Misconfigured,
    Refused,
    SinkBatch,
    SinkRecord,
    Transient,
    TryAgain,
)
from processors.sinks.documents import SourceRecord, is_wanted, sink_record
from processors.sinks.guarding import Answered, GuardedSink
from schemas.errors import Poison, Reason
from schemas.process.telemetry import Telemetry
from schemas.sinks import sinks_file
from schemas.sinks.telemetry import SINK_BATCHES, SINK_DURATION

REMEMBERED_MAX = 50_000  # records of batches that wait

SkipUntil = Callable[[int], Awaitable[int]]
"""
Return up to which offset of a partition a person has ordered to skip what fails; 0 without an order.

Raises:
    Transient: that cannot be looked up now.
"""

Place = tuple[int, int, int]  # partition, offset, attempt
End = tuple[Outcome, Reason | None]  # as a tally counts it


log = structlog.get_logger()


class _Pending(NamedTuple):
    """A record to write, and its number among those of its slice that the sink asks for."""

    arrival: Arrival[SourceRecord]
    number: int
    record: SinkRecord


class SinkAddress(NamedTuple):
    """The name of a sink, and what its batches are named after."""

    name: str
    topic: str
    topic_id: str
    replay_id: str | None


class Sinking:
    """The handler of one sink's group."""

    def __init__(
        self,
        address: SinkAddress,
        settings: sinks_file.Sink,
        sink: GuardedSink,
        *,
        breaker: Breaker,
        skip_until: SkipUntil,
        instruments: Telemetry,
        clock_s: Callable[[], float] = monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Write what *settings* ask for to *sink*; of what fails, what precedes *skip_until* is given up."""
        self.held_for: str | None = None  # why a person must look at the sink; None: nobody must
        self._address = address
        self._settings = settings
        self._sink = sink
        self._breaker = breaker
        self._skip_until = skip_until
        self._batches = instruments[SINK_BATCHES]
        self._duration = instruments[SINK_DURATION].labels(address.name)
        self._clock_s = clock_s
        self._jitter = jitter
        self._bytes_max: int | None = None  # of the JSON of a batch, once one was too large
        self._failures: Counter[int] = Counter()  # in a row, by partition
        self._settled: dict[Place, End | FailedRecord[SourceRecord]] = {}

    async def write(self, arrivals: Sequence[Arrival[SourceRecord]]) -> Settled[SourceRecord]:
        """See `Handler`."""
        while pending := self._pending(arrivals):
            try:
                await self._write(self._next(pending))
            except Transient:
                if not await self._skip(pending):
                    raise
        ends = [self._settled.pop(_place(arrival)) for arrival in arrivals]
        return Settled(
            Tally(end for end in ends if not isinstance(end, FailedRecord)),
            dead=[end for end in ends if isinstance(end, FailedRecord)],
        )

    def _pending(self, arrivals: Sequence[Arrival[SourceRecord]]) -> Sequence[_Pending]:
        """Return what is to be written; what is not asked for is settled."""
        pending: list[_Pending] = []
        number = 0
        for arrival in arrivals:
            if arrival.rejection is not None:
                self._settle(arrival, (Outcome.REJECTED, arrival.rejection.reason))
            elif not is_wanted(arrival.record, tenant=self._settings.tenant, types=self._settings.types):
                self._settle(arrival, (Outcome.FILTERED, None))
            else:
                if _place(arrival) not in self._settled:
                    pending.append(_Pending(arrival, number, sink_record(arrival)))
                number += 1
        return pending

    def _next(self, pending: Sequence[_Pending]) -> Sequence[_Pending]:
        """Return the first of *pending* that one batch may have: what its name says must say what is in it."""
        taken = [pending[0]]
        size_bytes = len(pending[0].record.json)
        for each in pending[1:]:
            size_bytes += len(each.record.json)
            if not _follows(taken[-1], each) or (self._bytes_max is not None and size_bytes > self._bytes_max):
                break
            taken.append(each)
        return taken

    async def _write(self, pending: Sequence[_Pending]) -> None:
        """
        Write one batch, and settle what of it came to an end.

        Raises:
            Transient: something of it is to be written again.
            Poison: one of its records, nobody knows which, will never be taken.
        """
        batch = self._batch(pending)
        if not self._breaker.admits(self._clock_s(), who=batch.partition):
            waiting = f"sink {self._address.name}: its breaker is {self._breaker.state}: {self._breaker.reason}"
            raise Transient(waiting) if self.held_for is None else Misconfigured(self.held_for)
        reach(Failpoint.BEFORE_WRITE)
        try:
            with self._duration.time():
                answered = await self._sink.write(batch)
        except CancelledError:
            self._breaker.abandoned(who=batch.partition)
            raise
        except Transient as reason:
            raise self._failed(batch, reason) from reason
        except BatchTooLarge as reason:
            self._succeeded(batch, "too_large")
            self._shrink(pending, str(reason))
        except BatchRefused as reason:
            self._succeeded(batch, "refused")
            if len(pending) > 1:
                raise Poison(Reason.DELIVERY_REFUSED, str(reason)) from reason
            self._settle_as_refused(pending[0].arrival, str(reason))
        else:
            reach(Failpoint.AFTER_WRITE)
            self._settle_answered(batch, pending, answered)

    async def _skip(self, pending: Sequence[_Pending]) -> bool:
        """Give up those of *pending* that a person has ordered to skip; return True if there are any."""
        try:
            end = await self._skip_until(pending[0].arrival.raw.partition)
        except Transient:  # Kafka is away, and with it the order
            return False
        skipped = [each.arrival for each in pending if not each.arrival.raw.attempt and each.record.place.offset < end]
        for arrival in skipped:
            self._settle(arrival, (Outcome.SKIPPED, None))
        if skipped:
            first, last = skipped[0].raw.place.wal_id, skipped[-1].raw.offset
            log.warning("skipped, as ordered", sink=self._address.name, first=first, last=last, count=len(skipped))
        return bool(skipped)

    def _batch(self, pending: Sequence[_Pending]) -> SinkBatch:
        raw = pending[0].arrival.raw
        return SinkBatch(
            topic=self._address.topic,
            topic_id=self._address.topic_id,
            partition=raw.partition,
            attempt=raw.attempt,
            replay_id=self._address.replay_id,
            records=[each.record for each in pending],
        )

    def _settle_answered(self, batch: SinkBatch, pending: Sequence[_Pending], answered: Answered) -> None:
        not_taken: Mapping[int, Refused | TryAgain] = {each.index: each for each in answered}
        again = [each for each in answered if isinstance(each, TryAgain)]
        for index, each in enumerate(pending):
            match not_taken.get(index):
                case None:
                    self._settle(each.arrival, (Outcome.DONE, None))
                case Refused(reason=reason):
                    self._settle_as_refused(each.arrival, reason)
                case TryAgain():
                    pass
        if not again:
            self._succeeded(batch, "taken" if not not_taken else "in_part")
            return
        reason = f"{len(again)} of {len(pending)} records of {batch.token} are to be written again: {again[0].reason}"
        if len(again) == len(pending):
            raise self._failed(batch, Transient(reason))
        self._succeeded(batch, "in_part")
        raise Transient(self._named(reason), retry_after_s=self._pause_s(batch.partition, None))

    def _succeeded(self, batch: SinkBatch, outcome: str) -> None:
        self._breaker.succeeded(self._clock_s())
        self._batches.labels(self._address.name, outcome).inc()
        self._failures.pop(batch.partition, None)
        self.held_for = None

    def _failed(self, batch: SinkBatch, reason: Transient) -> Transient:
        """Return what the lane is told of a write that failed with *reason*."""
        is_held = isinstance(reason, Misconfigured)
        self._batches.labels(self._address.name, "held" if is_held else "transient").inc()
        text = self._named(str(reason))
        self._breaker.failed(self._clock_s(), text, who=batch.partition, open_s=self._settings.breaker_open_s)
        self.held_for = text if is_held else None
        pause_s = self._pause_s(batch.partition, reason.retry_after_s)
        return (Misconfigured if is_held else Transient)(text, retry_after_s=pause_s)

    def _named(self, reason: str) -> str:
        return f"sink {self._address.name}: {reason}"

    def _pause_s(self, partition: int, asked_s: float | None) -> float:
        """Return the pause after one more failure in *partition*: a receiver may slow us down, not stop us."""
        self._failures[partition] += 1
        retry = self._settings.retry
        own_s = retry.first_s * 2.0 ** min(self._failures[partition] - 1, 16)
        return min(retry.longest_s, max(asked_s or 0.0, own_s * (1 - self._jitter() / 2)))

    def _shrink(self, pending: Sequence[_Pending], reason: str) -> None:
        if len(pending) == 1:
            self._settle(pending[0].arrival, FailedRecord(pending[0].arrival, Reason.TOO_LARGE, reason))
            return
        self._bytes_max = sum(len(each.record.json) for each in pending) // 2

    def _settle_as_refused(self, arrival: Arrival[SourceRecord], reason: str) -> None:
        self._settle(arrival, FailedRecord(arrival, Reason.DELIVERY_REFUSED, reason))

    def _settle(self, arrival: Arrival[SourceRecord], end: End | FailedRecord[SourceRecord]) -> None:
        if len(self._settled) >= REMEMBERED_MAX:
            # Of batches that were given up with their partitions. To forget costs a second write, no record.
            self._settled.pop(next(iter(self._settled)))
        self._settled[_place(arrival)] = end


def _follows(before: _Pending, each: _Pending) -> bool:
    """Return True if nothing that the sink wants lies between the two in the log."""
    first, second = before.arrival.raw, each.arrival.raw
    if (first.partition, first.attempt) != (second.partition, second.attempt):
        return False
    if second.attempt:  # what lay between them is not known: each was picked by hand
        return second.offset == first.offset + 1
    return each.number == before.number + 1


def _place(arrival: Arrival[SourceRecord]) -> Place:
    raw = arrival.raw
    return raw.partition, raw.offset, raw.attempt
