"""
The loop that every processor shares: decode, judge, hand to the processor, and settle whatever it answers.

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

import structlog

from processors.runtime.backoff import delay_s
from processors.runtime.batch import Batch, Partition, RawRecord
from processors.runtime.dead_letters import DeadLetters, Outgoing, cut_letter, dead_letter, deferral
from processors.runtime.errors import RecordRefused, Transient
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.health import Health
from processors.runtime.limit import DeadLetterLimit, Poisoned
from processors.runtime.outcomes import Arrival, Failure, Handler, Outcome, SomeFailed, Tally
from processors.runtime.reading import Unreadable, read, read_set_aside, refuses_any
from schemas.access.credentials import Credentials, CurrentCredentials, decide
from schemas.errors import Poison
from schemas.kafka.topics import Group, Topic
from schemas.process import telemetry

HALTED_S = 1.0  # between two looks at a limit that a person may raise
CLOCK_S = 5.0  # between two looks at a clock that may have been set

log = structlog.get_logger()


class Delivery:
    """Brings slices of one group's source to their effect."""

    def __init__(
        self,
        group: Group,
        handler: Handler,
        *,
        dead_letters: DeadLetters,
        credentials: CurrentCredentials,
        instruments: telemetry.Telemetry,
        health: Health,
        limit: Callable[[], DeadLetterLimit],
        clock_s: Callable[[], float],
        only_key: bytes | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """
        Hand decoded records of *group* to *handler*; *limit* may answer otherwise each time.

        With *only_key*, records of other keys are passed by. Records wait in delay tiers by *clock_s*, the time of day.
        """
        self._group = group
        self._handler = handler
        self._dead_letters = dead_letters
        self._credentials = credentials
        self._health = health
        self._limit = limit
        self._only_key = only_key
        self.asleep: set[Partition] = set()  # lanes that wait and have nothing under way
        self._sleep = sleep
        self._clock_s = clock_s
        self._tiers = {tier.topic.name: (number, tier) for number, tier in enumerate(group.tiers, start=1)}
        self._poisoned: defaultdict[Partition, Poisoned] = defaultdict(Poisoned)
        self._records = instruments[telemetry.RECORDS]
        self._retries = instruments[telemetry.SLICE_RETRIES]
        self._slice_records = instruments[telemetry.SLICE_RECORDS].labels(group.name)
        self._slice_duration = instruments[telemetry.SLICE_DURATION].labels(group.name)

    async def deliver(self, batch: Batch) -> None:
        """Bring every record of *batch* to a durable outcome; waits as long as that takes."""
        started_s = monotonic()
        async for records in self._due(batch):
            arrivals, unreadable = self._read(batch.partition.topic, records)
            readable = 0
            for found in unreadable:
                # What decodes counts where it stands, though handled later: else poison would look like all there is.
                self._poisoned[batch.partition].handled(found.readable_before - readable, self._limit())
                readable = found.readable_before
                await self._bury(batch.partition, found.raw, found.poison)
            await self._settle(batch.partition, arrivals, noted=readable)
        reach(Failpoint.AFTER_COMMIT_BEFORE_OFFSET)
        self._slice_records.observe(len(batch.records))
        self._slice_duration.observe(monotonic() - started_s)

    async def _due(self, batch: Batch) -> AsyncIterator[Sequence[RawRecord]]:
        """The records of *batch*; those of a delay tier in parts, each when it is due."""
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

    def _read(self, topic: str, records: Sequence[RawRecord]) -> tuple[list[Arrival], list[Unreadable]]:
        return decide(lambda by: self._read_by(by, topic, records), self._credentials, refuses=refuses_any)

    def _read_by(
        self, credentials: Credentials, topic: str, records: Sequence[RawRecord]
    ) -> tuple[list[Arrival], list[Unreadable]]:
        if topic == self._group.redrive.name:
            return read_set_aside(records, credentials, tier=0)
        if topic in self._tiers:
            number, _ = self._tiers[topic]
            return read_set_aside(records, credentials, tier=number)
        return read(records, credentials)

    def _asked_for(self, batch: Batch) -> Sequence[RawRecord]:
        if self._only_key is None:
            return batch.records
        return [record for record in batch.records if record.key == self._only_key]

    async def _settle(self, partition: Partition, arrivals: Sequence[Arrival], *, noted: int) -> None:
        """Bring *arrivals* to their outcomes; the first *noted* count as handled already."""
        # Halves are worked off front first, so that the order of the log is the order of effects.
        waiting = [arrivals] if arrivals else []
        while waiting:
            part = waiting.pop()
            noted_of_part = min(noted, len(part))
            try:
                tally = await self._until_possible(partition, lambda part=part: self._handler(part))  # type: ignore[misc]
            except Poison as poison:
                if len(part) > 1:
                    middle = len(part) // 2
                    waiting += [part[middle:], part[:middle]]
                    continue
                await self._bury(partition, part[0].raw, poison)
            except SomeFailed as left:
                self._count(partition, left.tally)
                done = left.tally.total()
                self._poisoned[partition].handled(done, self._limit(), noted=min(noted_of_part, done))
                for failure in left.failures:
                    await self._set_aside(partition, failure)
            else:
                self._count(partition, tally)
                self._poisoned[partition].handled(len(part), self._limit(), noted=noted_of_part)
            noted -= noted_of_part

    async def _set_aside(self, partition: Partition, failure: Failure) -> None:
        raw, poison, tiers = failure.arrival.raw, failure.poison, self._group.tiers
        if not failure.again or raw.tier >= len(tiers):
            await self._bury(partition, raw, poison)
            return
        letter, tier = deferral(raw, poison, group=self._group), tiers[raw.tier].topic
        if letter is None or not await self._is_taken(partition, tier, letter):
            await self._bury(partition, raw, poison)
        else:
            self._count(partition, Tally({(Outcome.DEFERRED, poison.reason): 1}))

    async def _is_taken(self, partition: Partition, topic: Topic, letter: Outgoing) -> bool:
        """Write *letter*; False if *topic* refuses it for good."""
        try:
            await self._until_possible(partition, lambda: self._write(topic, letter))
        except RecordRefused as refusal:
            log.warning("a topic refuses a record", topic=topic.name, reason=str(refusal))
            self._health.goes_on(partition)
            return False
        return True

    async def _bury(self, partition: Partition, raw: RawRecord, poison: Poison) -> None:
        await self._until_admitted(partition, raw, poison)
        topic = self._group.dead_letters
        if not await self._is_taken(partition, topic, dead_letter(raw, poison, group=self._group)):
            without_bytes = cut_letter(raw, poison, group=self._group)
            await self._until_possible(partition, lambda: self._write_cut(topic, without_bytes))
        self._poisoned[partition].dead_lettered(self._limit())
        self._count(partition, Tally({(Outcome.DEAD_LETTER, poison.reason): 1}))
        log.warning(
            "record dead-lettered",
            topic=raw.topic,
            partition=raw.partition,
            offset=raw.offset,
            reason=poison.reason,
            detail=poison.detail,
        )

    async def _until_admitted(self, partition: Partition, raw: RawRecord, poison: Poison) -> None:
        if self._poisoned[partition].admits(self._limit()):
            return
        reason = f"the dead-letter limit is reached at {raw.topic}/{raw.partition}/{raw.offset}: {poison.detail}"
        self._health.halts(partition, reason)
        log.critical("lane halted", partition=partition.partition, reason=reason)
        while not self._poisoned[partition].admits(self._limit()):
            await self._rest(partition, HALTED_S)
        self._health.goes_on(partition)
        log.warning("lane goes on", partition=partition.partition, reason="the dead-letter limit was raised")

    async def _write_cut(self, topic: Topic, letter: Outgoing) -> Tally:
        try:
            return await self._write(topic, letter)
        except RecordRefused as refusal:
            # A letter of a few KB: what is wrong is the topic, and an operator can mend it.
            raise Transient(f"{refusal}; see the topic's settings") from refusal

    async def _write(self, topic: Topic, letter: Outgoing) -> Tally:
        await self._dead_letters.write(topic, [letter])
        return Tally()

    async def _until_possible(self, partition: Partition, attempt: Callable[[], Awaitable[Tally]]) -> Tally:
        failures = 0
        while True:
            try:
                tally = await attempt()
            except Transient as reason:
                failures += 1
                self._retries.labels(self._group.name, type(reason.__cause__ or reason).__name__).inc()
                self._health.waits(partition, str(reason))
                if failures == 1:
                    log.warning("lane waits", partition=partition.partition, reason=str(reason))
                await self._rest(partition, delay_s(failures, jitter=random.random()))  # noqa: S311 - spreads load, keeps no secret
            else:
                if failures:
                    self._health.goes_on(partition)
                    log.warning("lane goes on", partition=partition.partition, attempts=failures + 1)
                return tally

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
    """Those that precede the first of *records* that was written later."""
    return list(takewhile(lambda record: record.timestamp <= moment_ms, records))
