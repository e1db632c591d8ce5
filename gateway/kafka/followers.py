"""
The progress of consumer groups: one task per group reads its committed offsets for everyone who asks or waits.

A task asks once a second, to know when each partition last advanced, and more often while requests wait.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Protocol, Self

from gateway.errors import LogUnavailable
from gateway.kafka.consumer import REQUEST_S, looking_consumer, partitions_of
from gateway.kafka.thread import ClientThread
from schemas.kafka import lookups
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.places import Partition, RecordPlace
from schemas.kafka.positions import Position, PositionFault
from schemas.kafka.topics import Group

IDLE_EVERY_S = 1.0
BUSY_EVERY_S = 0.1
STALE_S = 5.0
WAITERS_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionProgress:
    """Position of a group in one partition."""

    committed: int | None  # None: nowhere, it has no first offset
    moved_at: datetime | None  # when this gateway last saw it go on; None: not since it started
    metadata: str = ""  # what was committed beside the offset

    @property
    def position(self) -> Position:
        """Return what the group has committed."""
        return Position(offset=self.committed, metadata=self.metadata)


class Committed(Protocol):
    """The committed offsets of one group. Its methods block, and raise KafkaException."""

    def read(self) -> Mapping[Partition, Position]:
        """Return what the group has committed in each partition of its topics."""

    def close(self) -> None:
        """End the connection."""


class GroupFollower:
    """A follower of one group; an async context manager."""

    def __init__(
        self, group: Group, committed: Committed, *, clock: Callable[[], datetime], waiters_max: int = WAITERS_MAX
    ) -> None:
        """Prepare; the context asks a first time, and goes on."""
        self.group = group
        # Of its source's partitions, as `LagMonitor` measured them a second ago.
        self.faults: Mapping[int, PositionFault] = {}
        self._committed = committed
        self._clock = clock
        self._waiters_max = waiters_max
        self._thread = ClientThread("kafka-committed")
        self._seen: dict[Partition, PartitionProgress] = {}
        self._seen_at_s: float | None = None
        self._waiters: dict[asyncio.Future[None], tuple[int, int]] = {}  # partition, offset
        self._wanted = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Ask, and go on asking."""
        await self._ask()
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop asking; who still waits is told in its time."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._thread.close(self._committed.close)

    @property
    def is_answered(self) -> bool:
        """Return True if Kafka has recently reported what the group has committed."""
        return self._seen_at_s is not None and monotonic() - self._seen_at_s <= STALE_S

    def progress(self, topic: str | None = None) -> Mapping[int, PartitionProgress]:
        """
        Return where the group is on each partition of *topic* (None: its source), a second old at most while Kafka
        answers.

        Raises:
            LogUnavailable: it has not answered for a while.
        """
        if not self.is_answered:
            raise LogUnavailable("Kafka does not tell what the group has committed")
        wanted = topic or self.group.source.name
        return {each.partition: progress for each, progress in self._seen.items() if each.topic == wanted}

    async def wait_past(self, place: RecordPlace, *, timeout_s: float) -> bool:
        """Wait until the group has committed past *place*; False after *timeout_s*, or at once if too many wait."""
        if len(self._waiters) >= self._waiters_max:
            return False
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[passed] = place.partition, place.offset
        self._wanted.set()
        try:
            async with asyncio.timeout(timeout_s):
                await passed
        except TimeoutError:
            return False
        finally:
            del self._waiters[passed]
        return True

    async def _follow(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_EVERY_S):
                    await self._wanted.wait()
            self._wanted.clear()
            await self._ask()
            while self._waiters:
                await asyncio.sleep(BUSY_EVERY_S)
                await self._ask()

    async def _ask(self) -> None:
        with suppress(LogUnavailable):  # `progress` says so once it lasts
            self._note(await self._thread.run(self._committed.read))

    def _note(self, committed: Mapping[Partition, Position]) -> None:
        now, before, source = self._clock(), self._seen, self.group.source.name
        self._seen_at_s = monotonic()
        self._seen = {partition: _moved(before.get(partition), each, now) for partition, each in committed.items()}
        for passed, (partition, offset) in self._waiters.items():
            position = committed.get(Partition(source, partition))
            if not passed.done() and position is not None and (position.offset or 0) > offset:
                passed.set_result(None)


class CommittedOffsets:
    """`Committed` of a group, asked through a consumer that speaks for it without joining it."""

    def __init__(self, kafka: KafkaSettings, group: Group) -> None:
        """Connect in the background."""
        self._topics = [topic.name for topic in group.sources]
        self._consumer = looking_consumer(kafka, group_id=group.id)
        self._places: list[Partition] = []

    def read(self) -> Mapping[Partition, Position]:
        """See `Committed.read`."""
        if not self._places:  # the partitions of a live topic never change
            self._places = [
                Partition(topic, partition)
                for topic in self._topics
                for partition in partitions_of(self._consumer, topic)
            ]
        found = lookups.positions(self._consumer, self._places, timeout_s=REQUEST_S)
        return {Partition(*place): position for place, position in found.items()}

    def close(self) -> None:
        """See `Committed.close`."""
        self._consumer.close()


def _moved(before: PartitionProgress | None, position: Position, now: datetime) -> PartitionProgress:
    moved_at = None if before is None else before.moved_at if before.committed == position.offset else now
    return PartitionProgress(committed=position.offset, moved_at=moved_at, metadata=position.metadata)
