"""
The loop that every processor shares: read a slice, hand it to the handler, and settle what that answers.

A slice is finished only when each of its records has an outcome that is durable. A record that can never be handled is
found by halving the slice, written to the dead-letter topic with its bytes, and its neighbours go on in order. One
that only fails for now waits in the group's delay tiers, if it has any, each a topic whose lane waits until its head
is due.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import takewhile
from time import monotonic
from typing import Generic, TypeVar

import structlog

from processors.runtime.backoff import delay_s
from processors.runtime.batch import Batch, RawRecord
from processors.runtime.contract import Arrival, FailedRecord, Handler, Outcome, Reader, Reading, Settled, Tally
from processors.runtime.dead_letters import DeadLetters, OutgoingRecord, cut_letter, dead_letter, deferral
from processors.runtime.errors import Misconfigured, RecordRefused, Transient
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.health import Health
from processors.runtime.limit import DeadLetterLimit, DeadLetterRatio
from processors.runtime.reading import restored
from schemas.errors import Poison, Reason
from schemas.kafka.places import Partition
from schemas.kafka.topics import Group, Topic
from schemas.process import telemetry

LIMIT_POLL_S = 1.0  # between two looks at a limit that a person may raise
CLOCK_S = 5.0  # between two looks at a clock that may have been set

R = TypeVar("R")
T = TypeVar("T")

log = structlog.get_logger()


class Delivery(Generic[R]):
    """The loop that brings slices of one group's source to their effect."""

    def __init__(
        self,
        group: Group,
        handler: Handler[R],
        *,
        read: Reader[R],
        dead_letters: DeadLetters,
        instruments: telemetry.Telemetry,
        health: Health,
        limit: Callable[[], DeadLetterLimit],
        clock_s: Callable[[], float],
        only_key: bytes | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """
        Hand records of *group* to *handler* as *read* returns them; *limit* may answer otherwise each time.

        With *only_key*, records of other keys are passed by. Records wait in delay tiers by *clock_s*, the time of day.
        """
        self._group = group
        self._handler = handler
        self._reader = read
        self._dead_letters = dead_letters
        self._health = health
        self._limit = limit
        self._only_key = only_key
        self.asleep: set[Partition] = set()  # lanes that wait and have nothing under way
        self._sleep = sleep
        self._clock_s = clock_s
        self._tiers = {tier.topic.name: (number, tier) for number, tier in enumerate(group.tiers, start=1)}
        self._ratios: defaultdict[Partition, DeadLetterRatio] = defaultdict(DeadLetterRatio)
        self._records = instruments[telemetry.RECORDS]
        self._retries = instruments[telemetry.SLICE_RETRIES]
        self._slice_records = instruments[telemetry.SLICE_RECORDS].labels(group.name)
        self._slice_duration = instruments[telemetry.SLICE_DURATION].labels(group.name)

    async def deliver(self, batch: Batch) -> None:
        """Bring every record of *batch* to a durable outcome; waits as long as that takes."""
        started_s = monotonic()
        async for records in self._due(batch):
            arrivals, unreadable = self._read(batch.partition.topic, records)
            counted = 0
            for found in unreadable:
                # What decodes counts in its place, though handled later: else poison would look like all there is.
                self._ratios[batch.partition].passed(found.readable_before - counted, self._limit())
                counted = found.readable_before
                await self._dead_letter(batch.partition, found.raw, found.poison.reason, found.poison.detail)
            await self._handle(batch.partition, arrivals, counted=counted)
        reach(Failpoint.AFTER_COMMIT_BEFORE_OFFSET)
        self._slice_records.observe(len(batch.records))
        self._slice_duration.observe(monotonic() - started_s)

    async def _due(self, batch: Batch) -> AsyncIterator[Sequence[RawRecord]]:
        """Yield the records of *batch*; those of a delay tier in parts, each when it is due."""
        if batch.partition.topic not in self._tiers:
            yield self._asked_for(batch)
            return
        _, tier = self._tiers[batch.partition.topic]
        waiting = list(batch.records)
        while waiting:
            due_until_ms = 1000 * (self._clock_s() - tier.delay_s)
            if due := _written_by(waiting, due_until_ms):
                yield due
                del waiting[: len(due)]
            else:
                left_s = (waiting[0].timestamp - due_until_ms) / 1000
                await self._rest(batch.partition, min(left_s, CLOCK_S))

    def _read(self, topic: str, records: Sequence[RawRecord]) -> Reading[R]:
        if topic == self._group.redrive.name:
            tier = 0
        elif topic in self._tiers:
            tier, _ = self._tiers[topic]
        else:
            return self._reader(records)
        originals, without_origin = restored(records, tier=tier)
        found = self._reader(originals)
        return Reading(found.arrivals, [*without_origin, *found.unreadable])

    def _asked_for(self, batch: Batch) -> Sequence[RawRecord]:
        if self._only_key is None:
            return batch.records
        return [record for record in batch.records if record.key == self._only_key]

    async def _handle(self, partition: Partition, arrivals: Sequence[Arrival[R]], *, counted: int) -> None:
        """Bring *arrivals* to their outcomes; the first *counted* are counted as passed already."""
        # Halves are worked off front first, so that the order of the log is the order of effects.
        waiting = [arrivals] if arrivals else []
        while waiting:
            part = waiting.pop()
            counted_of_part = min(counted, len(part))
            try:
                settled = await self._until_possible(partition, lambda part=part: self._handler(part))  # type: ignore[misc]
            except Poison as poison:
                if len(part) > 1:
                    middle = len(part) // 2
                    waiting += [part[middle:], part[:middle]]
                    continue
                await self._dead_letter(
                    partition, part[0].raw, poison.reason, poison.detail, counted=bool(counted_of_part)
                )
            else:
                await self._settle(partition, settled, counted=counted_of_part)
            counted -= counted_of_part

    async def _settle(self, partition: Partition, settled: Settled[R], *, counted: int) -> None:
        """Write what *settled* puts aside, and count; *counted* of its records are counted as passed already."""
        self._count(partition, settled.tally)
        done = settled.tally.total()
        counted_of_done = min(counted, done)
        self._ratios[partition].passed(done, self._limit(), counted=counted_of_done)
        left = counted - counted_of_done
        for number, failed in enumerate(settled.retry_later):
            await self._defer(partition, failed, counted=number < left)
        for number, failed in enumerate(settled.dead, start=len(settled.retry_later)):
            await self._dead_letter(partition, failed.arrival.raw, failed.reason, failed.detail, counted=number < left)

    async def _defer(self, partition: Partition, failed: FailedRecord[R], *, counted: bool) -> None:
        """Let a record wait in its next delay tier; after the last, or where it does not fit, it is a dead letter."""
        raw, tiers = failed.arrival.raw, self._group.tiers
        if tiers and raw.tier == len(tiers):
            # Each attempt has failed by itself, and the end is the one that was configured: no sign of a topic that
            # empties into dead letters, so the limit has no say. In the last tier that is how most records end.
            await self._write_dead_letter(partition, raw, failed.reason, failed.detail)
            return
        if raw.tier < len(tiers):
            letter = deferral(raw, failed.reason, failed.detail, group=self._group)
            if letter is not None and await self._is_taken(partition, tiers[raw.tier].topic, letter):
                self._count(partition, Tally({(Outcome.DEFERRED, failed.reason): 1}))
                return
        await self._dead_letter(partition, raw, failed.reason, failed.detail, counted=counted)

    async def _is_taken(self, partition: Partition, topic: Topic, letter: OutgoingRecord) -> bool:
        """Write *letter*; False if *topic* refuses it for good."""
        try:
            await self._until_possible(partition, lambda: self._write(topic, letter))
        except RecordRefused as refusal:
            log.warning("topic refuses a record", topic=topic.name, error=str(refusal))
            self._health.mark_resumed(partition)
            return False
        return True

    async def _dead_letter(
        self, partition: Partition, raw: RawRecord, reason: Reason, detail: str, *, counted: bool = False
    ) -> None:
        await self._until_admitted(partition, raw, detail)
        await self._write_dead_letter(partition, raw, reason, detail)
        self._ratios[partition].dead_lettered(self._limit(), counted=counted)

    async def _write_dead_letter(self, partition: Partition, raw: RawRecord, reason: Reason, detail: str) -> None:
        topic = self._group.dead_letters
        if not await self._is_taken(partition, topic, dead_letter(raw, reason, detail, group=self._group)):
            without_bytes = cut_letter(raw, reason, detail, group=self._group)
            await self._until_possible(partition, lambda: self._write_cut(topic, without_bytes))
        self._count(partition, Tally({(Outcome.DEAD_LETTER, reason): 1}))
        log.warning(
            "record dead-lettered",
            topic=raw.topic,
            partition=raw.partition,
            offset=raw.offset,
            reason=reason,
            detail=detail,
        )

    async def _until_admitted(self, partition: Partition, raw: RawRecord, detail: str) -> None:
        if self._ratios[partition].admits(self._limit()):
            return
        reason = f"the dead-letter limit is reached at {raw.place.wal_id}: {detail}"
        self._health.mark_halted(partition, reason)
        log.critical("partition halted", partition=partition.partition, error=reason)
        while not self._ratios[partition].admits(self._limit()):
            await self._rest(partition, LIMIT_POLL_S)
        self._health.mark_resumed(partition)
        log.warning("partition resumed: the dead-letter limit was raised", partition=partition.partition)

    async def _write_cut(self, topic: Topic, letter: OutgoingRecord) -> None:
        try:
            await self._write(topic, letter)
        except RecordRefused as refusal:
            # A letter of a few KB: what is wrong is the topic, and an operator can mend it.
            raise Transient(f"{refusal}; see the topic's settings") from refusal

    async def _write(self, topic: Topic, letter: OutgoingRecord) -> None:
        await self._dead_letters.write(topic, [letter])

    async def _until_possible(self, partition: Partition, attempt: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            try:
                answer = await attempt()
            except Transient as reason:
                failures += 1
                self._retries.labels(self._group.name, type(reason.__cause__ or reason).__name__).inc()
                self._note_wait(partition, reason, is_first=failures == 1)
                own_s = delay_s(failures, jitter=random.random())  # noqa: S311 - spreads load, keeps no secret
                await self._rest(partition, own_s if reason.retry_after_s is None else reason.retry_after_s)
            else:
                if failures:
                    self._health.mark_resumed(partition)
                    log.warning("partition resumed", partition=partition.partition, attempts=failures + 1)
                return answer

    def _note_wait(self, partition: Partition, reason: Transient, *, is_first: bool) -> None:
        if not isinstance(reason, Misconfigured):
            self._health.mark_waiting(partition, str(reason))
            if is_first:
                log.warning("partition waits", partition=partition.partition, error=str(reason))
            return
        if partition not in self._health.halted:
            log.critical("partition halted", partition=partition.partition, error=str(reason))
        self._health.mark_halted(partition, str(reason))

    async def _rest(self, partition: Partition, seconds: float) -> None:
        self.asleep.add(partition)
        try:
            await self._sleep(seconds)
        finally:
            self.asleep.discard(partition)

    def _count(self, partition: Partition, tally: Tally) -> None:
        for (outcome, reason), count in tally.items():
            self._records.labels(partition.topic, self._group.name, outcome, reason or "").inc(count)


def _written_by(records: Sequence[RawRecord], moment_ms: float) -> Sequence[RawRecord]:
    """Return those that precede the first of *records* that was written later."""
    return list(takewhile(lambda record: record.timestamp <= moment_ms, records))
