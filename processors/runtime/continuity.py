"""
A check that each record a group receives follows those it has handled, to detect a log that was cut off in between.

Before a slice is worked on whose first record was appended by a later leader than the last record before it, that
last record is looked up in the log. Where it is gone, what stands before the slice may be new records that nobody has
handled, so the partition stops, and the others go on. It goes on when an operator accepts the log as it is: the worker
ends then, and whoever is assigned the partition begins at the accepted position.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import NoReturn

import structlog

from processors.runtime.backoff import delay_s
from processors.runtime.batch import Batch, RawRecord
from processors.runtime.errors import LogRewritten, Transient, Unsettled
from processors.runtime.health import Health
from processors.runtime.positions import Positions
from schemas.kafka.places import Partition
from schemas.kafka.positions import (
    EXPLANATIONS,
    WAY_ON,
    Mark,
    Position,
    PositionFault,
    digest,
    is_accepted,
    lost_mark,
    metadata,
)

POLL_INTERVAL_S = 1.0  # at a partition that is stopped

log = structlog.get_logger()


class Continuity:
    """The last record of each partition that was handed over, and the last that was handled."""

    def __init__(
        self,
        positions: Positions,
        *,
        topics: Collection[str],
        health: Health,
        stops: bool = True,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """
        Look marks of *topics* up in *positions*; where one is gone, stop its partition, or fail if it never *stops*.

        Compacted topics have no marks: their records may go while the log stands.
        """
        self._positions = positions
        self._topics = topics
        self._health = health
        self._stops = stops
        self._sleep = sleep
        self._topic_ids: Mapping[str, str] = {}
        self._handed: dict[Partition, Mark] = {}
        self._handled: dict[Partition, Mark] = {}
        self.asleep: set[Partition] = set()  # partitions that are stopped

    async def begin(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """
        Take the marks that are committed for *partitions*, which were just assigned.

        Returns the positions that an operator has accepted in place of committed ones: commit them first.

        Raises:
            Transient: Kafka does not answer.
        """
        # The first id of a topic stays: the assignment may be that of a topic that is missing, or has come back.
        ids = await self._positions.topic_ids(self._topics)
        self._topic_ids = {**ids, **self._topic_ids}
        committed = await self._positions.committed(partitions)
        orders = await self._positions.accepted(partitions)
        accepted: dict[Partition, int] = {}
        for partition, position in committed.items():
            order = orders[partition]
            if order.offset is not None and is_accepted(order, position, ids.get(partition.topic)):
                log.warning("going on from the accepted position", partition=str(partition), offset=order.offset)
                accepted[partition] = order.offset
            mark = None if partition in accepted else position.mark
            for marks in (self._handed, self._handled):
                marks.pop(partition, None)
                if mark is not None:
                    marks[partition] = mark
        return accepted

    def mark_lost(self, partition: Partition, offset: int) -> bool:
        """
        Mark *offset*, which has no mark and lies beyond the log, so that it is known as lost once the log is as long.

        Returns False where the topic has no marks.
        """
        topic_id = self._topic_ids.get(partition.topic)
        if topic_id is None or partition in self._handled:
            return False
        self._handled[partition] = lost_mark(topic_id, offset)
        return True

    async def lost_topics(self) -> tuple[Collection[str], Collection[str]]:
        """
        Return the topics that are missing, and those that were deleted and created again while this process ran.

        Raises:
            Transient: Kafka does not answer.
        """
        found = await self._positions.topic_ids(self._topics)
        recreated = {name for name, topic_id in found.items() if self._topic_ids.get(name, topic_id) != topic_id}
        return set(self._topics) - found.keys(), recreated

    def metadata(self, partition: Partition) -> str:
        """Return the metadata to commit beside an offset of *partition*."""
        return metadata(self._handled.get(partition))

    async def admit(self, batch: Batch) -> None:
        """
        Return once *batch* is known to follow what was handed over before it; not while its partition is stopped.

        Raises:
            Unsettled: the partition is to be begun again, by this process's successor.
        """
        first, before = batch.records[0], self._handed.get(batch.partition)
        if before is not None and (before.epoch, before.topic) != (first.epoch, self._topic_ids.get(first.topic)):
            await self.check(batch.partition, Position(offset=first.offset, metadata=metadata(before)))
        # A record without its bytes has no digest that the log would confirm.
        last = next((record for record in reversed(batch.records) if record.cut is None), None)
        batch.mark = None if last is None else self._mark(last)
        if batch.mark is not None:
            self._handed[batch.partition] = batch.mark

    def finished(self, batch: Batch) -> None:
        """Note that every effect of *batch* is durable."""
        if batch.mark is not None:
            self._handled[batch.partition] = batch.mark

    async def check(self, partition: Partition, position: Position) -> None:
        """
        Return if the log holds what *position* stands for; else stop.

        Raises:
            Unsettled: see `admit`.
        """
        found = await self.fault(partition, position)
        if found is not None:
            await self.stop(partition, position, found)

    async def fault(self, partition: Partition, position: Position) -> PositionFault | None:
        """See `Positions.fault`; waits for Kafka as long as that takes."""
        failures = 0
        while True:
            try:
                found = await self._positions.fault(partition, position)
            except Transient as error:
                failures += 1
                self._health.mark_waiting(partition, str(error))
                await self._sleep(delay_s(failures, jitter=random.random()))  # noqa: S311  # spreads load
                continue
            if failures:
                self._health.mark_resumed(partition)
            return found

    async def stop_rewritten(self, partition: Partition, error: LogRewritten) -> NoReturn:
        """
        Stop *partition* at a record whose place another one has had, until an operator has accepted the log.

        Raises:
            Unsettled: see `stop`.
        """
        await self._stop(
            partition,
            PositionFault.REWRITTEN,
            f"{error}: {EXPLANATIONS[PositionFault.REWRITTEN]}; {WAY_ON}",
            only_accepted=True,
        )

    async def stop(self, partition: Partition, position: Position, found: PositionFault) -> NoReturn:
        """
        Stop *partition*, whose *position* has outlived the log, until an operator or the log itself has mended that.

        Raises:
            Unsettled: it is mended, so the partition is to be begun again.
        """
        reason = f"{partition} at offset {position.offset}: {EXPLANATIONS[found]}; {WAY_ON}"
        await self._stop(partition, found, reason, only_accepted=False)

    async def _stop(self, partition: Partition, found: PositionFault, reason: str, *, only_accepted: bool) -> NoReturn:
        place = str(partition)
        if not self._stops:
            raise Unsettled(reason)
        self._health.mark_halted(partition, reason)
        log.critical("partition stopped", partition=place, fault=found.value, error=reason)
        self.asleep.add(partition)
        try:
            while not await self._is_mended(partition, only_accepted=only_accepted):
                await self._sleep(POLL_INTERVAL_S)
        finally:
            self.asleep.discard(partition)
        raise Unsettled(f"{place} goes on from another position; the worker is started again for it")

    async def _is_mended(self, partition: Partition, *, only_accepted: bool) -> bool:
        """
        Return True if the partition can be begun again: at an accepted position, or at one that is known to be sound.
        """
        try:
            committed = (await self._positions.committed([partition]))[partition]
            accepted = (await self._positions.accepted([partition]))[partition]
            ids = await self._positions.topic_ids([partition.topic])
            if is_accepted(accepted, committed, ids.get(partition.topic)):
                return True
            # Without a mark the log may just have become as long as it was.
            if only_accepted or committed.mark is None:
                return False
            return await self._positions.fault(partition, committed) is None
        except Transient:
            return False

    def _mark(self, record: RawRecord) -> Mark | None:
        topic_id = self._topic_ids.get(record.topic)
        if topic_id is None or record.epoch < 0:
            return None
        return Mark(
            topic=topic_id,
            offset=record.offset,
            epoch=record.epoch,
            digest=digest(record.timestamp, record.key, record.value),
        )
