"""
Faust with one event per fetched slice, and with offsets that are ours.

Why: Faust's own acknowledgement loses messages when an agent raises or is cancelled, and one event per message costs
most of the throughput. Here Faust does the group, the rebalance and the commit loop; `OffsetTracker` alone decides what
is committed, and lanes do the work. This module and `fetched` are the only ones that touch private names of Faust and
aiokafka; both are pinned exactly, and `tests/contract/test_faust_names.py` fails on the first that moves.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, Protocol

import aiokafka
import structlog
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as AIOKafkaConsumer
from faust.transport.drivers.aiokafka import Transport as AIOKafkaTransport
from faust.types import TP, AppT, ConsumerMessage

from processors.runtime import fetched
from processors.runtime.backoff import delay_s
from processors.runtime.batch import Batch, Slice
from processors.runtime.continuity import Continuity
from processors.runtime.errors import Transient
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.lanes import Lanes
from processors.runtime.offset_tracker import OffsetTracker
from schemas.kafka.places import Partition
from schemas.kafka.positions import Position, PositionFault

# A fetch that leaves some partitions out must end soon, for one of them may have room again.
SHORT_FETCH_S = 0.01
# How long the broker holds a fetch that finds nothing. aiokafka has one fetch a broker under way: while it waits for
# partitions that are read to their end, those with a backlog lie still. Faust's 1.5 s halved the speed of a replay.
FETCH_WAIT_MS = 50
REVOKE_DRAIN_S = 8.0  # below the session timeout: the group waits for us
STOP_DRAIN_S = 12.0
# confluent_kafka (2.16) reads committed metadata up to a NUL, beyond its end where there is none; it writes one itself.
METADATA_END = "\0"
BEGIN_S = 15.0  # below Faust's patience with an assignment
COMMIT_S = 5.0  # a commit to a broker that is away must not hold up a revocation

log = structlog.get_logger()


class BatchConsumerThread(AIOKafkaConsumerThread):  # type: ignore[misc]  # Faust is untyped to us
    """The consumer's own thread: reads committed records only."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust reads uncommitted records outside its own exactly-once mode and has no setting for it.
        consumer._isolation_level = "read_committed"  # noqa: SLF001
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001
        # Faust commits offsets without metadata.
        consumer.commit = partial(self._commit_with_marks, consumer.commit)
        fetched.install()
        return consumer

    async def _commit_with_marks(
        self, commit: Callable[[Mapping[Any, OffsetAndMetadata]], Awaitable[None]], offsets: Mapping[Any, Any]
    ) -> None:
        def marked(tp: Any, offset: int) -> OffsetAndMetadata:
            return OffsetAndMetadata(offset, self.transport.continuity.metadata(Partition(*tp)) + METADATA_END)

        await commit({tp: marked(tp, each.offset) for tp, each in offsets.items()})

    async def pause(self, tp: TP) -> None:
        """Fetch nothing of *tp* until the next assignment."""
        self._ensure_consumer().pause(aiokafka.TopicPartition(*tp))


class BatchConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """A consumer whose messages are batches."""

    transport: "BatchTransport"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what Faust passes."""
        super().__init__(*args, **kwargs)
        self._epoch = 0  # grows with every revocation: a fetch that spans one is not to be trusted
        self._room = asyncio.Event()
        self._beyond_end: dict[TP, asyncio.Task[None]] = {}  # partitions whose position lies beyond the log

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def finished(self, batch: Batch) -> None:
        """Note that *batch* is durable, and wake the fetch loop."""
        self.transport.tracker.finish(batch)
        self._room.set()

    def joined(self, gathered: Batch, batch: Batch) -> None:
        """Note that *batch* will be finished with *gathered*, and wake the fetch loop: its records leave memory."""
        self.transport.tracker.join(gathered, batch)
        self._room.set()

    # Fetching

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:  # noqa: ASYNC109 - Faust's
        """Fetch once and yield one message per partition, its value a `Batch`."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        self.transport.observer.fetched()
        epoch = self._epoch
        active = self._get_active_partitions()
        unread = {tp for tp in active - self._beyond_end.keys() if not self._is_read_to_end(tp)}
        if active and not unread and not self._beyond_end and self.transport.tracker.settled():
            self.transport.observer.ended()
        wanted = {tp for tp in unread if self.transport.tracker.has_room(Partition(*tp))}
        if not wanted:
            await self._wait_for_room(unread, timeout)
            return
        if len(wanted) < len(unread):
            timeout = SHORT_FETCH_S
        fetched = self._within_ends(await self._fetch(wanted, timeout))
        slices = [(tp, part) for tp, records in fetched for part in self.transport.parts(records)][::-1]
        if slices:
            reach(Failpoint.AFTER_POLL)
        elif epoch == self._epoch and self.flow_active:
            self._skip_to(wanted - self._beyond_end.keys())
        try:
            while slices and epoch == self._epoch and self.flow_active and not self.should_stop:
                tp, records = slices.pop()
                batch = Batch(Partition(*tp), records)
                if self.transport.tracker.open(batch):
                    yield tp, self._batch_message(tp, batch)
        finally:
            # What was fetched is handed on or will be fetched again; nothing is passed over.
            for tp, records in slices:
                self._rewind(tp, records[0].offset)

    async def _fetch(self, wanted: set[TP], timeout_s: float) -> Mapping[Any, Slice]:
        try:
            return await self._getmany(active_partitions=wanted, timeout=timeout_s) or {}
        except OffsetOutOfRangeError as error:
            await self._stop_beyond_end(error)
            return {}

    async def _stop_beyond_end(self, error: OffsetOutOfRangeError) -> None:
        """Stop each partition whose log ends before its position. Raises *error* where it begins after it."""
        continuity, epoch = self.transport.continuity, self._epoch
        for each, offset in error.args[0].items():
            tp = TP(*each)
            if tp in self._beyond_end:
                continue
            position = Position(offset=offset, metadata=continuity.metadata(Partition(*tp)))
            fault = await continuity.fault(Partition(*tp), position)
            if epoch != self._epoch:  # given up meanwhile: whoever is assigned it finds out by itself
                return
            if fault is None:
                raise error
            await self._thread.call_thread(self._thread.pause, tp)
            stopped = asyncio.create_task(self._stay_beyond_end(Partition(*tp), position, fault))
            self._beyond_end[tp] = stopped

    async def _stay_beyond_end(self, partition: Partition, position: Position, fault: PositionFault) -> None:
        try:
            offset = position.offset if position.mark is None else None
            if offset is not None and self.transport.continuity.mark_lost(partition, offset):
                await self._thread.commit({TP(*partition): offset})
            await self.transport.continuity.stop(partition, position, fault)
        except Exception as error:  # noqa: BLE001  # whatever it is, the process must not go on without the partition
            self.transport.fatal(error)

    def _is_read_to_end(self, tp: TP) -> bool:
        end = self.transport.ends.get(Partition(*tp))
        if end is None:
            return False
        position = self._position(tp)
        if position is None or position < end:
            return False
        self.transport.tracker.skip_to(Partition(*tp), end, self._committed_offset[tp])
        return True

    def _within_ends(self, fetched: Mapping[Any, Slice]) -> Iterator[tuple[TP, Slice]]:
        for tp, records in fetched.items():
            end = self.transport.ends.get(Partition(tp.topic, tp.partition))
            within = records
            if end is not None and records[-1].offset >= end:
                within = Slice(record for record in records if record.offset < end)
                within.size_bytes = records.size_bytes
            if within:
                yield TP(tp.topic, tp.partition), within

    async def _wait_for_room(self, unread: Iterable[TP], timeout_s: float) -> None:
        self._room.clear()
        if any(self.transport.tracker.has_room(Partition(*tp)) for tp in unread):
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._room.wait()
        except TimeoutError:
            return

    def _rewind(self, tp: TP, offset: int) -> None:
        # Back only: after a rebalance the partition may stand at a committed offset before these records.
        position = self._position(tp)
        if position is not None and offset < position:
            self._thread.seek(tp, offset)

    def _skip_to(self, partitions: Iterable[TP]) -> None:
        # Between two fetches the position is what has been handed out, so it is safe to read here and nowhere else.
        for tp in partitions:
            position = self._position(tp)
            if position is not None:
                self.transport.tracker.skip_to(Partition(*tp), position, self._committed_offset[tp])

    def _position(self, tp: TP) -> int | None:
        subscription = self._thread._ensure_consumer()._subscription.subscription  # noqa: SLF001
        assignment = subscription and subscription.assignment
        held = assignment and assignment.state_value(aiokafka.TopicPartition(*tp))
        return held.position if held and held.has_valid_position else None

    def _batch_message(self, tp: TP, batch: Batch) -> ConsumerMessage:
        last = batch.records[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            0,
            [],
            None,
            batch,
            None,
            0,
            batch.size_bytes,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Keep no gaps: the offsets between two batches are inside them."""

    # Committing

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        for partition in self.transport.tracker.to_commit():
            tp = TP(*partition)
            if topics is None or tp in topics or tp.topic in topics:
                yield tp

    def _new_offset(self, tp: TP) -> int | None:
        return self.transport.tracker.committable(Partition(*tp))

    def _should_commit(self, tp: TP, offset: int) -> bool:  # noqa: ARG002 - Faust's signature
        # Faust compares with an offset that it moves on even when the commit failed.
        return True

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:  # noqa: FBT001, FBT002 - Faust's
        if not await super()._commit_offsets(offsets, start_new_transaction):
            return False
        reach(Failpoint.AFTER_OFFSET)
        for tp, offset in offsets.items():
            self.transport.tracker.committed(Partition(*tp), offset)
            self.transport.observer.committed(Partition(*tp), offset)
        return True

    # Giving up partitions

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish and commit what is in work, within bounds, before the group goes on without us."""
        self.stop_flow()
        await self._give_up(revoked, drain_s=REVOKE_DRAIN_S)
        await super().on_partitions_revoked(revoked)

    async def perform_seek(self) -> None:
        """Begin each assigned partition where the group has committed, or where *starts* says now."""
        partitions = [Partition(*tp) for tp in self.assignment()]
        starts = self.transport.starts
        if starts is not None:
            await self._begin([])
            await self.seek_wait({TP(*partition): starts(partition) for partition in partitions})
            return
        accepted = await self._begin(partitions)
        if accepted:
            # A member may commit; the operator who accepted them could not.
            await self._thread.commit({TP(*partition): offset for partition, offset in accepted.items()})
        await super().perform_seek()

    async def _begin(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """See `Continuity.begin`; a coordinator that was just started may not know its groups yet."""
        failures, deadline_s = 0, monotonic() + BEGIN_S
        while True:
            try:
                return await self.transport.continuity.begin(partitions)
            except Transient as error:
                failures += 1
                if monotonic() > deadline_s:
                    raise
                log.warning("positions not read yet", error=str(error))
                await asyncio.sleep(delay_s(failures, jitter=random.random()))  # noqa: S311  # spreads load

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Start over: Faust lets `perform_seek` find the first offset of every assigned partition."""
        self._forget_beyond_end()
        self.transport.tracker.assign(Partition(*tp) for tp in assigned)
        await super().on_partitions_assigned(assigned, generation_id)
        self.transport.observer.assigned(len(assigned))

    async def on_stop(self) -> None:
        """Finish and commit what is in work; Faust has stopped fetching by now."""
        await self._give_up(self.assignment(), drain_s=STOP_DRAIN_S)
        await super().on_stop()

    async def _give_up(self, tps: Iterable[TP], *, drain_s: float) -> None:
        self._epoch += 1
        partitions = [Partition(*tp) for tp in tps]
        lanes, tracker = self.transport.lanes, self.transport.tracker
        if not await lanes.drain(partitions, timeout_s=drain_s):
            log.warning("gave up unfinished work", partitions=len(partitions), waited_s=drain_s)
        await self._commit_last()
        self._forget_beyond_end()
        await lanes.cancel(partitions)
        tracker.forget(partitions)

    def _forget_beyond_end(self) -> None:
        for task in self._beyond_end.values():
            task.cancel()
        self._beyond_end.clear()

    async def _commit_last(self) -> None:
        try:
            async with asyncio.timeout(COMMIT_S):
                # Beside a commit that is under way Faust's would do nothing, and that one may have begun too early.
                # Waited for like this, since Faust takes the end of our patience for that of the other commit.
                if (under_way := self._commit_fut) is not None:
                    await asyncio.wait([under_way])
                await self.commit()
        except TimeoutError:
            log.warning("offsets not committed before giving partitions up", waited_s=COMMIT_S)


class Observer(Protocol):
    """The port to whoever watches the transport."""

    def fetched(self) -> None:
        """Note that the fetch loop turned, with or without records."""

    def committed(self, partition: Partition, offset: int) -> None:
        """Note that the broker has taken *offset* of *partition*."""

    def ended(self) -> None:
        """Note that every partition is read to its end, if it was given one, and all of it is done and committed."""

    def assigned(self, count: int) -> None:
        """Note that the group gave us *count* partitions."""


class BatchTransport(AIOKafkaTransport):  # type: ignore[misc]
    """Faust's Kafka transport with `BatchConsumer`; assign an instance to `app.transport`."""

    Consumer = BatchConsumer

    def __init__(
        self,
        app: AppT,
        *,
        lanes: Lanes,
        tracker: OffsetTracker,
        observer: Observer,
        continuity: Continuity,
        fatal: Callable[[BaseException], None],
        ends: Mapping[Partition, int],
        starts: Callable[[Partition], int] | None = None,
        parts: Callable[[Slice], Sequence[Slice]] = lambda records: [records],
    ) -> None:
        """
        Serve *app* with *lanes* that do the work and *tracker* that says what is done, up to *ends*, if any.

        *continuity* knows where the log was cut off under the group; what cannot go on goes to *fatal*. With *starts*,
        each assignment of a partition begins at the offset that it names, not at the committed one. Each of the *parts*
        of what is fetched is a batch.
        """
        super().__init__(app.conf.broker_consumer, app)
        self.lanes = lanes
        self.tracker = tracker
        self.continuity = continuity
        self.fatal = fatal
        self.ends = ends
        self.starts = starts
        self.parts = parts
        self.observer = observer
