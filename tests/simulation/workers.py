"""The workers of one group as their transport drives them, and the broker that keeps the group's offsets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from processors.runs.persistence.handler import persistence
from processors.runs.persistence.verdicts import judge
from processors.runtime.batch import Batch, Slice
from processors.runtime.delivery import Delivery
from processors.runtime.errors import Transient
from processors.runtime.gathering import Bounds
from processors.runtime.health import Health
from processors.runtime.lanes import Lanes
from processors.runtime.limit import DeadLetterLimit
from processors.runtime.offset_tracker import BATCHES_MAX, BYTES_MAX, OffsetTracker
from processors.runtime.placement import Placement
from processors.runtime.reading import trusting_reader
from schemas.kafka.places import Partition
from schemas.process import telemetry
from schemas.process.telemetry import WRONG_PARTITION
from schemas.runs.codec import RUN_CODEC
from schemas.runs.telemetry import OF_PERSISTENCE
from schemas.runs.topics import PERSISTENCE
from schemas.runs.validity import check_direct
from tests.simulation.calls import Calls
from tests.simulation.log import PARTITIONS, Log
from tests.simulation.tables import Database, Judge, Tables, Writer
from tests.support.builders import MAC_SECRET, Raw, credentials
from tests.support.fakes import InForce

REVOKE_DRAIN_S = 8.0
FETCHED_MAX = 10  # records that a schedule fetches at once

# One for all simulations: making the metrics takes longer than most of them.
INSTRUMENTS = telemetry.Telemetry(OF_PERSISTENCE)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The product under simulation; a test of the simulation puts a broken part in."""

    tracker: Callable[[], OffsetTracker] = OffsetTracker
    lanes: Callable[..., Lanes] = Lanes
    gathering: Bounds | None = None  # where the lanes gather
    delivery: type[Delivery] = Delivery
    judge: Judge = judge


@dataclass(eq=False)
class Assignment:
    """That a worker holds a partition, from when it was given to it; the broker knows it by its identity."""

    position: int  # the next offset to fetch
    committed: int  # as the worker knows it
    batches: list[Batch] = field(default_factory=list)
    gives_up: bool = False

    def open_batches(self) -> list[Batch]:
        """Return those that are not finished."""
        return [batch for batch in self.batches if not batch.finished]


class Broker:
    """Keeps the group's offsets, and takes them from the owner of a partition alone."""

    def __init__(self, log: Log, tables: Tables) -> None:
        """Hold offset 0 of every partition, which nobody owns."""
        self._log = log
        self._tables = tables
        self.owners: dict[Partition, Assignment] = {}
        self.committed = dict.fromkeys(PARTITIONS, 0)

    def commit(self, partition: Partition, offset: int, assignment: Assignment) -> bool:
        """Take *offset*, unless the partition was given away."""
        if self.owners.get(partition) is not assignment:
            return False
        before = self.committed[partition]
        assert before <= offset <= self._log.lengths[partition], f"P5: {before} -> {offset} of {partition}"
        for passed in range(before, offset):
            assert self._tables.is_settled((partition.partition, passed)), f"P5: {passed} of {partition} has no effect"
        self.committed[partition] = offset
        return True


class Worker:
    """What `BatchConsumer` does around the real `OffsetTracker`, `Lanes` and `Delivery`."""

    def __init__(
        self, parts: Parts, *, log: Log, tables: Tables, broker: Broker, calls: Calls, limit: DeadLetterLimit
    ) -> None:
        """Hold no partition yet; stop at *limit*."""
        self._log = log
        self._broker = broker
        self._calls = calls
        self.limit = limit
        self.failures: list[BaseException] = []
        self.held: dict[Partition, Assignment] = {}
        self._committing: set[Partition] = set()
        self._tracker = parts.tracker()
        self._gathering = parts.gathering
        writer = Writer(tables, calls)
        delivery = parts.delivery(
            PERSISTENCE,
            persistence(
                Database(tables, calls, judge=parts.judge),  # type: ignore[arg-type]  # a fake of the same shape
                writer,  # type: ignore[arg-type]  # the same
                lambda: MAC_SECRET,
                Placement(_partition_count, INSTRUMENTS[WRONG_PARTITION].labels("run.events", "persistence")),
            ),
            dead_letters=writer,  # type: ignore[arg-type]  # fakes of the same shape
            read=trusting_reader(check_direct, codec=RUN_CODEC, credentials=InForce(credentials())),
            instruments=INSTRUMENTS,
            health=Health(),
            limit=lambda: self.limit,
            clock_s=lambda: 0.0,
            sleep=self._sleep,
        )
        self._deliver = delivery.deliver
        self._lanes = parts.lanes(self._work, finished=self._finished, fatal=self.failures.append)

    def assign(self, partition: Partition) -> None:
        """Start at the committed offset."""
        committed = self._broker.committed[partition]
        self.held[partition] = self._broker.owners[partition] = Assignment(position=committed, committed=committed)
        self._tracker.assign([partition])

    def fetch(self, partition: Partition, count: int) -> None:
        """Hand the next records to their lane, if there is room for them."""
        held = self.held.get(partition)
        if held is None or held.gives_up or not self._tracker.has_room(partition):
            return
        records = self._log.slice(partition, held.position, count)
        if not records:
            held.position = self._log.lengths[partition]
            self._tracker.skip_to(partition, held.position, held.committed)
            return
        fetched = _as_fetched(records)
        for part in [fetched] if self._gathering is None else self._gathering.parts(fetched):
            batch = Batch(partition, part)
            assert self._tracker.open(batch), "a partition with room takes nothing"
            held.batches.append(batch)
            held.position = batch.end_offset
            self._lanes.dispatch(batch)
        self._check_bounds(held.open_batches())

    async def commit(self, partition: Partition) -> None:
        """Commit what is finished; one commit at a time."""
        held, offset = self.held.get(partition), self._tracker.committable(partition)
        if held is None or offset is None or partition in self._committing:
            return
        self._committing.add(partition)
        try:
            taken = await self._calls.make(lambda: self._broker.commit(partition, offset, held))
        except Transient:
            taken = False
        finally:
            self._committing.discard(partition)
        if taken:
            self._tracker.committed(partition, offset)
            held.committed = offset

    async def give_up(self, partition: Partition) -> None:
        """Finish and commit what is in work, within bounds, and let the partition go."""
        held = self.held.get(partition)
        if held is None or held.gives_up:
            return
        held.gives_up = True
        await self._lanes.drain([partition], timeout_s=REVOKE_DRAIN_S)
        await self.commit(partition)
        if self.held.get(partition) is held:
            await self._let_go(partition)

    async def cut_off(self, partition: Partition) -> None:
        """Let the partition go with whatever is in work."""
        if partition in self.held:
            await self._let_go(partition)

    async def _let_go(self, partition: Partition) -> None:
        await self._lanes.cancel([partition])
        self._tracker.forget([partition])
        held = self.held.pop(partition, None)
        if held is not None and self._broker.owners.get(partition) is held:
            del self._broker.owners[partition]

    def _finished(self, batch: Batch) -> None:
        for each in batch.slices:
            self._tracker.finish(each)

    def _check_bounds(self, unfinished: list[Batch]) -> None:
        if self._gathering is None:
            assert len(unfinished) <= BATCHES_MAX, "more batches in work than there is room for"
            before_last = sum(batch.size_bytes for batch in unfinished[:-1])
            assert before_last < BYTES_MAX, "more bytes in work than there is room for"
            return
        records = sum(len(batch.records) for batch in unfinished)
        assert records < self._gathering.in_flight.records_max + FETCHED_MAX, "more records than there is room for"

    async def _work(self, batch: Batch) -> None:
        """Work *batch*, once it is seen to be within the bounds."""
        if self._gathering is not None and len(batch.records) > 1:
            assert len(batch.records) <= self._gathering.records_max, "bounds: more records than a batch may have"
            assert batch.size_bytes <= self._gathering.bytes_max, "bounds: more bytes than a batch may have"
            windows = {record.offset // self._gathering.records_max for record in batch.records}
            assert len(windows) == 1, "bounds: a batch beyond a multiple of its size"
        await self._deliver(batch)

    async def _sleep(self, _seconds: float) -> None:
        await self._calls.make(lambda: None, can_fail=False)


def _as_fetched(records: Sequence[Raw]) -> Slice:
    """Return the slice with the size that its batches were inflated to."""
    fetched = Slice(records)  # type: ignore[arg-type]  # a fake of the same shape
    fetched.size_bytes = sum(len(each.value or b"") if each.cut is None else BYTES_MAX for each in records)
    return fetched


async def _partition_count() -> int:
    return len(PARTITIONS)
