"""
The archive of one topic: records are gathered in spool files, and each file becomes one object.

A partition's objects are a chain: each is named after the offset that the one before names as the next, which is what
the group has committed. It is put only if there is none of its name. If there is, another worker has put it, stopped,
and was given up: its footer says how far the archive goes, and this worker goes on from there. So no object is ever
replaced, and each offset is in exactly one, whenever a worker is killed or comes back.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Protocol, TypeVar

import structlog

from processors.archive.spool import SpoolFile
from processors.runtime.backoff import delay_s
from processors.runtime.batch import Batch
from processors.runtime.contract import Outcome
from processors.runtime.errors import Transient, Unsettled
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.health import Health
from schemas.archive.names import Branch, ObjectName
from schemas.archive.objects import ObjectDamaged, read_object
from schemas.archive.storage import ArchiveStorage, ObjectMissing, StorageAway
from schemas.archive.telemetry import ARCHIVE_BYTES, ARCHIVE_OBJECTS, ARCHIVE_PUT_DURATION, ARCHIVE_SPOOLED
from schemas.kafka.places import Partition
from schemas.kafka.positions import Position
from schemas.kafka.topics import Group
from schemas.process import telemetry

PUTS_MAX = 2  # at once: each is in memory as a whole

T = TypeVar("T")

log = structlog.get_logger()


class ChainEnds(Protocol):
    """The port to what the group has committed; `KafkaPositions` has it. Transient is raised where Kafka is away."""

    async def topic_ids(self, topics: Collection[str]) -> Mapping[str, str]:
        """Return Kafka's id of each of *topics* that exists."""

    async def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, Position]:
        """Return what the group has committed."""


@dataclass(slots=True)
class _Gathered:
    """The end of a partition's chain, and what is gathered behind it."""

    branch: Branch
    next: int  # where the next object begins
    spool: SpoolFile | None = None  # None: no record has come yet


@dataclass(kw_only=True)
class Archiver:
    """`processors.runtime.spooling.Spool`: what is gathered of each partition becomes its next object."""

    group: Group
    storage: ArchiveStorage
    positions: ChainEnds
    health: Health
    instruments: telemetry.Telemetry
    object_bytes: int
    seconds_max: float
    clock_s: Callable[[], float]
    folder: Path | None = None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    asleep: set[Partition] = field(default_factory=set)  # partitions that wait and have nothing under way
    _gathered: dict[Partition, _Gathered] = field(default_factory=dict)
    _puts: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PUTS_MAX))

    def __post_init__(self) -> None:
        """Let the metrics show what is spooled."""
        spooled = self.instruments[ARCHIVE_SPOOLED].labels(self.group.source.name)
        spooled.set_function(lambda: sum(each.spool.size_bytes for each in self._gathered.values() if each.spool))

    async def add(self, batch: Batch) -> None:
        """See `Spool.add`."""
        partition = batch.partition
        if partition.topic != self.group.source.name:
            # Dead letters that were sent back: the archive has none of its own, and its objects never change.
            log.warning("passed by: the archive takes nothing but its topic", topic=partition.topic)
            return
        if (gathered := self._gathered.get(partition)) is None:
            gathered = self._gathered[partition] = await self._until_possible(partition, lambda: self._begin(partition))
        records = [record for record in batch.records if record.offset >= gathered.next]
        if not records:
            return
        if gathered.spool is None:
            gathered.spool = SpoolFile(ObjectName(branch=gathered.branch, first=gathered.next), folder=self.folder)
        await asyncio.to_thread(gathered.spool.add, records)

    def is_full(self, partition: Partition) -> bool:
        """See `Spool.is_full`."""
        gathered = self._gathered.get(partition)
        return gathered is not None and gathered.spool is not None and gathered.spool.size_bytes >= self.object_bytes

    async def put(self, partition: Partition) -> int:
        """See `Spool.put`."""
        gathered = self._gathered.get(partition)
        if gathered is None:
            return 0
        while (spool := gathered.spool) is not None:
            reached = await self._until_possible(partition, lambda spool=spool: self._put(spool))  # type: ignore[misc]
            assert spool.footer is not None
            # Another worker's object may be shorter: what it lacks becomes the next one.
            gathered.spool = await asyncio.to_thread(spool.rest, reached) if reached < spool.footer.next else None
            gathered.next = reached
            spool.close()
        return gathered.next

    def drop(self, partition: Partition) -> None:
        """See `Spool.drop`."""
        gathered = self._gathered.pop(partition, None)
        if gathered is not None and gathered.spool is not None:
            gathered.spool.close()

    async def _begin(self, partition: Partition) -> _Gathered:
        """Return the end of the chain of *partition*: the committed offset, which is where this worker began."""
        ids = await self.positions.topic_ids([partition.topic])
        committed = (await self.positions.committed([partition]))[partition].offset
        if partition.topic not in ids or committed is None:
            raise Unsettled(f"{partition} has no committed offset, or its topic is gone: run `tidegate topics create`")
        branch = Branch(topic=partition.topic, topic_id=ids[partition.topic], partition=partition.partition)
        return _Gathered(branch, committed)

    async def _put(self, spool: SpoolFile) -> int:
        """
        Return how far the archive goes with the object that *spool* is to become, or with another worker's.

        Raises:
            Transient: it is not known whether there is one now.
        """
        content = await asyncio.to_thread(spool.end)
        assert spool.footer is not None
        name, topic, began_s = spool.name, spool.name.branch.topic, monotonic()
        try:
            async with self._puts:
                reach(Failpoint.BEFORE_PUT)
                is_created = await asyncio.to_thread(self.storage.create, name, content)
                reach(Failpoint.AFTER_PUT)
                next_offset = spool.footer.next if is_created else await asyncio.to_thread(self._adopted, name)
        except StorageAway as error:
            raise Transient(str(error)) from error
        self.instruments[ARCHIVE_PUT_DURATION].labels(topic).observe(monotonic() - began_s)
        self.instruments[ARCHIVE_OBJECTS].labels(topic, "created" if is_created else "adopted").inc()
        if is_created:
            self.instruments[ARCHIVE_BYTES].labels(topic).inc(spool.size_bytes)
            self.instruments[telemetry.RECORDS].labels(topic, self.group.name, Outcome.DONE, "").inc(spool.count)
        else:
            log.warning("an object was there: the archive goes on behind it", object=name.key, next=next_offset)
        return next_offset

    def _adopted(self, name: ObjectName) -> int:
        """Return where the object that follows the one called *name* begins; the whole of it is read first."""
        try:
            if (size_bytes := self.storage.size_of(name)) is None:
                raise Transient(f"object storage reports a conflict, and has no object {name.key}")
            next_offset = self.storage.footer(name, size_bytes).next
            for _ in read_object(self.storage.chunks(name), name):
                pass
        except ObjectMissing as error:
            raise Transient(f"{name.key} was there, and is not any more") from error
        except ObjectDamaged as error:
            # No object is ever replaced: a person has to say what becomes of it.
            raise Transient(f"{name.key} is damaged: {error}; remove it, and it is put again") from error
        return next_offset

    async def _until_possible(self, partition: Partition, attempt: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            try:
                answer = await attempt()
            except Transient as reason:
                failures += 1
                self.instruments[telemetry.SLICE_RETRIES].labels(
                    self.group.name, type(reason.__cause__ or reason).__name__
                ).inc()
                self.health.mark_waiting(partition, str(reason))
                if failures == 1:
                    log.warning("partition waits", partition=partition.partition, error=str(reason))
                await self._rest(partition, delay_s(failures, jitter=random.random()))  # noqa: S311  # spreads load
            else:
                if failures:
                    self.health.mark_resumed(partition)
                    log.warning("partition resumed", partition=partition.partition, attempts=failures + 1)
                return answer

    async def _rest(self, partition: Partition, seconds: float) -> None:
        self.asleep.add(partition)
        try:
            await self.sleep(seconds)
        finally:
            self.asleep.discard(partition)
