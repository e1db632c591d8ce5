"""
One process, one consumer group: a Faust app from its start to its exit code.

0 after SIGTERM or SIGINT with all work drained and committed; 70 when something could not be settled: the committed
offset then brings the work back to whoever takes the partitions over.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, Protocol

import faust
import structlog
from aiohttp import web
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError

from processors.runtime.batch import Batch
from processors.runtime.continuity import Continuity
from processors.runtime.errors import LogRewritten, Transient, Unsettled
from processors.runtime.gathering import Bounds, GatheringLanes
from processors.runtime.health import Health
from processors.runtime.lanes import Lanes, Work
from processors.runtime.management import management_runner
from processors.runtime.offset_tracker import InFlightBounds, OffsetTracker
from processors.runtime.positions import KafkaPositions
from processors.runtime.spooling import Spool, SpoolingLanes
from processors.runtime.transport import BatchTransport, Observer
from processors.runtime.watchdog import Watchdog
from schemas.kafka.connection import KafkaSettings, tls_context
from schemas.kafka.places import Partition
from schemas.kafka.topics import Cleanup, Topic
from schemas.process import telemetry
from schemas.process.settings import ManagementSettings

EXIT_UNSETTLED = 70  # EX_SOFTWARE of sysexits.h
LEAVE_S = 2.0  # a quick leave spares the group the session timeout
START_S = 30.0
BEAT_S = 1.0
TOPICS_EVERY_S = 5.0  # between two looks at whether the topics are still those that were assigned
CREATE = "run `tidegate topics create`"
ACCEPT = "run `tidegate topics accept`"
STUCK_S = 120.0  # far above the longest rebalance
STOP_S = 18.0  # the lanes' drain and a commit fit in; supervisors wait 30 s before they kill
FETCH_RECORDS_MAX = 4000  # a slice costs a millisecond or two beside what its records cost
FETCH_BYTES_MAX = 1024 * 1024  # of one partition, compressed: what waits in memory is a multiple of it
COMMIT_INTERVAL_S = 0.5
GC_ALLOCATIONS = 100_000

log = structlog.get_logger()


class ConsumerGroup(Protocol):
    """A consumer group: a declared one (`schemas.kafka.topics.Group`), or one that lives as long as its process."""

    @property
    def name(self) -> str:
        """Return what metrics call it."""

    @property
    def id(self) -> str:
        """Return Kafka's group.id."""

    @property
    def sources(self) -> Sequence[Topic]:
        """Return what it consumes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _GroupObserver(Observer):
    group: ConsumerGroup
    health: Health
    instruments: telemetry.Telemetry
    watchdog: Watchdog
    stop: Callable[[], None]

    def fetched(self) -> None:
        self.watchdog.beat("fetch")

    def committed(self, partition: Partition, offset: int) -> None:
        gauge = self.instruments[telemetry.GROUP_COMMITTED]
        gauge.labels(partition.topic, self.group.name, str(partition.partition)).set(offset)

    def ended(self) -> None:
        self.stop()

    def assigned(self, count: int) -> None:
        self.health.mark_assigned(count)
        log.info("partitions assigned", group=self.group.id, count=count)


class Worker:
    """A worker that runs one group until it is stopped or cannot continue."""

    def __init__(
        self,
        group: ConsumerGroup,
        *,
        kafka: KafkaSettings,
        work: Work,
        health: Health,
        instruments: telemetry.Telemetry,
        ends: Mapping[Partition, int],
        asleep: Container[Partition] = frozenset(),
        fetch_records_max: int = FETCH_RECORDS_MAX,
        gathering: Bounds | None = None,
        spool: Spool | None = None,
        starts: Callable[[Partition], int] | None = None,
    ) -> None:
        """
        Wire Faust to *work*, which brings a batch to its end; nothing runs yet.

        Partitions with one of *ends* are read up to there; when all are, the worker stops. With *starts* the group
        never commits: whenever a partition is assigned, the first time or after a rebalance, it is read from the
        offset that *starts* names at that moment, which is to be the end of what *work* has done so far. Partitions
        that are *asleep* have no work under way. With *gathering*, *work* is given batches of several slices. With a
        *spool*, whose `add` is the *work*, slices are finished when it has been put; it commits nothing else.
        """
        self._group = group
        self._stop_asked = asyncio.Event()
        self._health = health
        self._instruments = instruments
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.app = _faust_app(group, kafka, fetch_records_max=fetch_records_max)
        self._tracker = OffsetTracker(
            commits=starts is None,
            skips=spool is None,
            in_flight=InFlightBounds() if gathering is None else gathering.in_flight,
        )
        self._positions = KafkaPositions(kafka, group.id)
        self._continuity = Continuity(
            self._positions,
            topics=[topic.name for topic in group.sources if topic.cleanup is Cleanup.DELETE],
            health=health,
            stops=starts is None and not ends,  # a replay that cannot go on ends
        )
        self._work = work
        self._watchdog = Watchdog(STUCK_S, fatal=_end_stuck)
        instruments[telemetry.GROUP_HEALTHY].labels(group.name).set_function(lambda: health.status() == "ready")
        instruments[telemetry.GROUP_HALTED_LANES].labels(group.name).set_function(lambda: len(health.halted))
        lanes: Callable[..., Lanes] = Lanes
        if gathering is not None:
            lanes = partial(GatheringLanes, bounds=gathering)
        elif spool is not None:
            lanes = partial(SpoolingLanes, spool=spool, joined=self._joined)
        self._lanes = lanes(
            self._admit_and_work,
            finished=self._finished,
            fatal=self._fail,
            is_asleep=lambda partition: partition in asleep or partition in self._continuity.asleep,
        )
        self.app.transport = BatchTransport(
            self.app,
            lanes=self._lanes,
            tracker=self._tracker,
            continuity=self._continuity,
            fatal=self._fail,
            observer=_GroupObserver(
                group=group,
                health=health,
                instruments=instruments,
                watchdog=self._watchdog,
                stop=self._stop_asked.set,
            ),
            ends=ends,
            starts=starts,
            **({} if gathering is None else {"parts": gathering.parts}),
        )
        names = [topic.name for topic in group.sources]
        source: Any = self.app.topic(*names, value_type=Batch, key_type=bytes)
        self.app.agent(source, name=group.name, concurrency=1)(self._dispatch)

    async def _dispatch(self, stream: faust.StreamT[Batch]) -> None:
        # The agent's body does nothing that can fail: an error here would make Faust skip the batch.
        async for batch in stream:
            self._lanes.dispatch(batch)

    async def _admit_and_work(self, batch: Batch) -> None:
        await self._continuity.admit(batch)
        try:
            await self._work(batch)
        except LogRewritten as error:
            await self._continuity.stop_rewritten(batch.partition, error)

    async def run(self, management: ManagementSettings) -> int:
        """Run until a signal, the ends or a failure; return the exit code."""
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, self._stop_asked.set)
        # Millions of short-lived records and no cycles among them: collect rarely.
        gc.freeze()
        gc.set_threshold(GC_ALLOCATIONS)
        runner = management_runner(self._health, self._instruments)
        await runner.setup()
        await web.TCPSite(runner, management.host, management.port).start()
        try:
            return await self._run()
        finally:
            await self._positions.close()
            await runner.cleanup()

    async def _run(self) -> int:
        stopped = asyncio.create_task(self._stop_asked.wait())
        crashed = asyncio.create_task(self._wait_for_crash())
        beating = asyncio.create_task(self._beat())
        watching = asyncio.create_task(self._watch_topics())
        try:
            async with asyncio.timeout(START_S):
                await self.app.start()
            self._watchdog.start()
            ends: set[asyncio.Future[Any]] = {stopped, crashed, watching, self._failure}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                return await self._stop()
            await next(each for each in (self._failure, watching, crashed) if each.done())
        except Exception as error:
            log.critical(_advice(error), group=self._group.id, error=repr(error), exc_info=error)
        finally:
            self._watchdog.stop()
            for task in (stopped, crashed, beating, watching):
                task.cancel()
        await self._leave()
        return EXIT_UNSETTLED

    async def _stop(self) -> int:
        try:
            async with asyncio.timeout(STOP_S):
                await self.app.stop()
        except TimeoutError:
            # Faust waits for a rebalance that waits for a dead member: nothing of ours is lost by leaving it.
            log.warning("stopped without waiting for the group", waited_s=STOP_S)
        return 0 if self._tracker.settled() and not self._tracker.left_work else EXIT_UNSETTLED

    async def _beat(self) -> None:
        while True:
            self._watchdog.beat("loop")
            await asyncio.sleep(BEAT_S)

    async def _watch_topics(self) -> None:
        """
        Raise Unsettled when a topic was deleted and created again; while it is missing the process is unready.

        Why the process ends: Faust and its driver go on with what they remember of the topic, and consume nothing.
        """
        lost: set[str] = set()
        while True:
            await asyncio.sleep(TOPICS_EVERY_S)
            with suppress(Transient):  # asked again
                missing, recreated = await self._continuity.lost_topics()
                lost.update(missing, recreated)
                if missing:
                    self._health.problem = f"topic {', '.join(sorted(missing))} does not exist: {CREATE}"
                elif lost:
                    raise Unsettled(f"topic {', '.join(sorted(lost))} was deleted and created again: {ACCEPT}")

    async def _wait_for_crash(self) -> None:
        # Faust stops the whole app when a part of it crashes, and may then hang: we only want to know.
        await self.app._crashed.wait()  # noqa: SLF001
        raise self.app.crash_reason or RuntimeError("Faust crashed without a reason")

    async def _leave(self) -> None:
        consumer = getattr(getattr(self.app.consumer, "_thread", None), "_consumer", None)
        coordinator = getattr(consumer, "_coordinator", None)
        if coordinator is None:
            return
        # In a task of its own: Faust may be closing the connection, and then what is cancelled is not us.
        leaving = asyncio.create_task(self.app.consumer._thread.call_thread(coordinator.maybe_leave_group))  # noqa: SLF001
        await asyncio.wait((leaving,), timeout=LEAVE_S)
        if not leaving.done() or leaving.cancelled() or leaving.exception():
            log.warning("could not leave consumer group", waited_s=LEAVE_S)  # the session timeout does it then

    def _finished(self, batch: Batch) -> None:
        self._continuity.finished(batch)
        for each in batch.slices:
            self.app.consumer.finished(each)

    def _joined(self, gathered: Batch, batch: Batch) -> None:
        self.app.consumer.joined(gathered, batch)

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)


class _App(faust.App):  # type: ignore[misc]  # Faust is untyped to us
    def _create_directories(self) -> None:
        """Make none: we keep no tables, and the working folder may be read-only."""


def _faust_app(group: ConsumerGroup, kafka: KafkaSettings, *, fetch_records_max: int = FETCH_RECORDS_MAX) -> faust.App:
    return _App(
        group.id,
        broker=[f"kafka://{server}" for server in kafka.servers],
        broker_credentials=_credentials(kafka),
        # A group without an offset, or whose offset has expired, stops instead of skipping.
        consumer_auto_offset_reset="none",
        broker_commit_interval=COMMIT_INTERVAL_S,
        broker_max_poll_records=fetch_records_max,
        broker_max_poll_interval=86_400.0,  # Faust fetches in a thread; a lane that waits for Postgres is no failure
        broker_session_timeout=10.0,  # how long the partitions of a killed worker lie still
        broker_heartbeat_interval=2.0,
        broker_rebalance_timeout=30.0,
        broker_request_timeout=30.0,
        # A larger record still comes: the broker sends at least one batch of records (KIP-74).
        consumer_max_fetch_size=FETCH_BYTES_MAX,
        stream_buffer_maxsize=4096,  # batches; OffsetTracker bounds what can be in flight far below it
        stream_wait_empty=False,
        processing_guarantee="at_least_once",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        store="memory://",
        value_serializer="raw",
        key_serializer="raw",
    )


def _credentials(kafka: KafkaSettings) -> Any:
    """Return the credentials in Faust's form; None where the connection is not secured."""
    context = tls_context(kafka) if kafka.security.has_tls else None
    if kafka.security.has_login:
        return faust.SASLCredentials(
            username=kafka.username, password=kafka.password(), mechanism=kafka.mechanism.value, ssl_context=context
        )
    return None if context is None else faust.SSLCredentials(context)


def _advice(error: BaseException) -> str:
    if isinstance(error, NoOffsetForPartitionError):
        return f"the group has no committed offset; of a new group or topic: {CREATE}; of a recreated topic: {ACCEPT}"
    if isinstance(error, OffsetOutOfRangeError):
        return (
            "records that this group has not processed have expired from the log; see `tidegate lag` before you reset"
        )
    return "worker cannot go on; its committed offsets bring the work back"


def _end_stuck(beat: str) -> None:
    log.critical("stuck; its committed offsets bring the work back", what=beat, waited_s=STUCK_S)
    end_process(EXIT_UNSETTLED)


def end_process(code: int) -> NoReturn:
    """Leave at once, from inside the loop: tasks and threads of Faust that ignore their end must not hold us up."""
    sys.stderr.flush()
    os._exit(code)
