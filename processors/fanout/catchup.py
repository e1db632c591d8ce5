"""
Sockets that come from the log: each is sent what lies between its place and the hub's, and is live then.

One reader a partition serves all who are behind there, in slices. While a slice is read, what the hub tells meanwhile
is kept (`Tail`), so that a socket that has come to where the reading began is given the rest from memory, and is at
the hub's position with nothing awaited in between. Who is served longest ago says where the next slice begins, and a
socket whose client has to read first is left where it is: neither the furthest nor the slowest holds up the others.

Sockets that asked for payloads in object storage fall behind for each such event, and are sent it here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Self

import structlog

from processors.fanout.hub import Hub
from processors.fanout.log import Expired, Log, LogSlice
from processors.fanout.messages import Key, Message, StreamRecord
from processors.fanout.reading import StreamReader
from processors.fanout.resolving import Resolver
from processors.fanout.streams.table import SOURCES
from processors.fanout.subscriber import Subscriber
from processors.fanout.tails import Tail
from processors.runtime.errors import Transient
from schemas.kafka.places import Partition
from schemas.process import telemetry

RESOLVED_MAX = 4  # events in a turn whose payloads are fetched
RESOLVED_BYTES_MAX = 64 * 1024 * 1024  # unsent by all sockets that ask for payloads
PAUSE_S = 0.02  # when nobody can be served: clients have to read, or the hub has to come to where a socket is
RETRY_DELAY_S = 1.0  # after Kafka did not answer

log = structlog.get_logger()


class CatchUp:
    """A task that brings sockets to the hub's position; an async context manager."""

    def __init__(
        self,
        hub: Hub,
        source: Log,
        read: StreamReader,
        *,
        resolver: Resolver,
        instruments: telemetry.Telemetry,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Read *source*, whose records *read* turns into what is sent."""
        self._hub = hub
        self._source = source
        self._read = read
        self._resolver = resolver
        self._sleep = sleep
        self._tasks: dict[Partition, asyncio.Task[None]] = {}
        self._slices = instruments[telemetry.FANOUT_SLICES]
        hub.wake = self._wake

    async def __aenter__(self) -> Self:
        """Return at once."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Read no more."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wake(self, partition: Partition) -> None:
        if partition not in self._tasks:
            name = f"catch-up {partition.topic}/{partition.partition}"
            self._tasks[partition] = asyncio.create_task(self._serve(partition), name=name)

    async def _serve(self, partition: Partition) -> None:
        try:
            while waiting := self._hub.waiting(partition):
                await self.turn(partition, waiting)
        except Exception:  # a bug of ours: no socket may hang on it
            log.exception("catching up failed", partition=partition.partition, topic=partition.topic)
            for subscriber in self._hub.waiting(partition):
                self._hub.reset(subscriber, "failed")
        finally:
            del self._tasks[partition]

    async def turn(self, partition: Partition, waiting: Sequence[Subscriber]) -> None:
        """Read one slice, and give it to who of *waiting* has come to where it begins."""
        ready = [subscriber for subscriber in waiting if _may_be_served(subscriber, partition)]
        if not ready:
            await self._sleep(PAUSE_S)
            return
        first = ready[0]
        start = first.behind[partition]
        if start > self._hub.places.position(partition):
            await self._wait_for_the_hub(first, partition, start)
            return
        tail = self._hub.follow(partition)
        try:
            found = await self._source.read(partition, start, tail.start)
            await self._give(_Turn(partition=partition, start=start, found=found, tail=tail), ready)
            if first.behind.get(partition) == start:  # its client has to read first
                await self._sleep(PAUSE_S)
        except Expired:
            if first.behind.get(partition) == start:
                self._hub.reset(first, "expired")
        except Transient as reason:
            log.warning("websockets wait for the log", error=str(reason))
            await self._sleep(RETRY_DELAY_S)
        finally:
            self._hub.unfollow(partition, tail)

    async def _wait_for_the_hub(self, subscriber: Subscriber, partition: Partition, start: int) -> None:
        # A page's cursor, or one of another fanout that is ahead: the hub comes there, unless it cannot.
        try:
            end = (await self._source.ends(SOURCES[partition.topic].topic))[partition.partition]
        except Transient:
            end = start
        if subscriber.behind.get(partition) != start:
            return
        if start > end:
            self._hub.reset(subscriber, "ahead")
            return
        self._hub.advance(subscriber, partition, start)
        await self._sleep(PAUSE_S)

    async def _give(self, turn: "_Turn", ready: Sequence[Subscriber]) -> None:
        self._slices.inc()
        by_key = self._by_key(turn, {subscriber.key for subscriber in ready})
        await self._resolve(turn, ready, by_key)
        for subscriber in ready:
            place = subscriber.behind.get(turn.partition)
            if place is None or not turn.start <= place <= turn.found.next_offset:
                continue
            self._give_one(subscriber, by_key.get(subscriber.key, ()), turn)
            self._hub.flush()
            await asyncio.sleep(0)

    def _give_one(self, subscriber: Subscriber, read: Sequence[StreamRecord], turn: "_Turn") -> None:
        joins = turn.found.next_offset >= turn.tail.start and not turn.tail.overrun
        kept = [record for record in turn.tail.records if subscriber.key in record.keys] if joins else []
        room_bytes = RESOLVED_BYTES_MAX - self._hub.unsent_of_resolving() if subscriber.resolves else 0
        for each in chain(read, kept):
            if each.offset < subscriber.behind[turn.partition]:
                continue
            record = turn.resolved.get(each.offset, each) if subscriber.resolves else each
            if record.kept is not None:
                room_bytes -= record.size_bytes
            unfit = subscriber.is_to_be_resolved(record) or room_bytes < 0
            if unfit or not subscriber.outbox.has_room(record.size_bytes):
                self._hub.advance(subscriber, turn.partition, record.offset)
                return
            self._hub.send_catch_up(subscriber, record, turn.message_cache)
        end = self._hub.places.position(turn.partition) if joins else turn.found.next_offset
        self._hub.advance(subscriber, turn.partition, max(end, subscriber.behind[turn.partition]))

    async def _resolve(
        self, turn: "_Turn", ready: Sequence[Subscriber], by_key: Mapping[Key, Sequence[StreamRecord]]
    ) -> None:
        """Fetch the payloads that come first for those of *ready* who asked for them."""
        wanted = {
            record.offset: record
            for subscriber in ready
            if subscriber.resolves and turn.partition in subscriber.behind
            for record in by_key.get(subscriber.key, ())
            if record.offset >= subscriber.behind[turn.partition] and subscriber.is_to_be_resolved(record)
        }
        first = dict(islice(wanted.items(), RESOLVED_MAX))
        resolved = await asyncio.gather(*(self._resolver.resolve(record) for record in first.values()))
        turn.resolved.update(zip(first, resolved, strict=True))

    def _by_key(self, turn: "_Turn", wanted: Container[Key]) -> dict[Key, list[StreamRecord]]:
        by_key: dict[Key, list[StreamRecord]] = {}
        for record in self._read(turn.partition, self._hub.wanted(turn.partition, turn.found.records)):
            for key in record.keys:
                if key in wanted:
                    by_key.setdefault(key, []).append(record)
        return by_key


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """One slice, and what it is for."""

    partition: Partition
    start: int
    found: LogSlice
    tail: Tail
    message_cache: dict[object, Message] = field(default_factory=dict)
    resolved: dict[int, StreamRecord] = field(default_factory=dict)  # by offset


def _may_be_served(subscriber: Subscriber, partition: Partition) -> bool:
    after = SOURCES[partition.topic].after
    if after is not None and subscriber.is_behind_on(after):
        return False
    if subscriber.resolves:
        return subscriber.outbox.unsent_bytes() == 0
    return subscriber.outbox.is_half_empty()
