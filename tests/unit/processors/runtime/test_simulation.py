"""Nothing is lost, doubled or out of order, whatever fails and whoever takes over: thousands of seeded schedules."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from random import Random
from typing import Any

import pytest
import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from processors.runs.persistence.verdicts import StoredState, Verdicts, judge
from processors.runtime.batch import Batch, RawRecord
from processors.runtime.contract import Arrival, Settled, Tally
from processors.runtime.delivery import Delivery
from processors.runtime.errors import Transient
from processors.runtime.gathering import Bounds, GatheringLane, GatheringLanes
from processors.runtime.lanes import Lane, Lanes
from processors.runtime.offset_tracker import OffsetTracker
from schemas.errors import Poison
from schemas.kafka.places import Partition
from schemas.kafka.topics import Topic
from tests.simulation.calls import Fate
from tests.simulation.log import PARTITIONS, RUNS, Kind
from tests.simulation.workers import Parts
from tests.simulation.world import WORKERS, World

SEEDS = 2_000
SEEDS_OF_A_MUTATION = 300

RUN_IDS = sorted(RUNS)
KINDS = list(Kind)
FATES = list(Fate)


@pytest.fixture(autouse=True, scope="module")
def silent() -> Iterator[None]:
    """Write no log lines: each dead letter is one."""

    def drop(*_line: Any) -> Any:
        raise structlog.DropEvent

    structlog.configure(processors=[drop])
    yield
    structlog.reset_defaults()


class Schedule:
    """Steps drawn from a seed, the frequent ones more often."""

    def __init__(self, seed: int, world: World) -> None:
        self.random = Random(seed)
        self.world = world
        frequent = [self.fetch] * 4 + [self.answer] * 10 + [self.commit] * 3 + [self.assign] * 2 + [self.append] * 2
        rare = [self.revoke, self.cut_off, self.expire, self.crash, self.pass_time]
        # Some seeds know no faults of some kind, so that long runs of steps pass between those that they know.
        self.steps = frequent + [step for step in rare if self.random.random() < 0.5]
        self.fates = [Fate.DONE] * 4 + [fate for fate in FATES if self.random.random() < 0.7]

    def run(self) -> None:
        for _ in range(self.random.randrange(30)):
            self.append()
        for partition in PARTITIONS:
            self.world.assign(partition, 0)
        for _ in range(self.random.randrange(100)):
            self.random.choice(self.steps)()
        self.world.recover()

    def append(self) -> None:
        self.world.append(self.random.choice(KINDS), self.random.choice(RUN_IDS))

    def assign(self) -> None:
        self.world.assign(self.partition(), self.worker())

    def fetch(self) -> None:
        self.world.fetch(self.partition(), self.random.randint(1, 8), self.worker())

    def answer(self) -> None:
        self.world.answer(self.random.randrange(10), self.random.choice(self.fates))

    def commit(self) -> None:
        self.world.commit(self.partition(), self.worker())

    def revoke(self) -> None:
        self.world.revoke(self.partition(), self.worker())

    def cut_off(self) -> None:
        self.world.cut_off(self.partition(), self.worker())

    def expire(self) -> None:
        self.world.expire(self.partition())

    def crash(self) -> None:
        self.world.crash(self.worker())

    def pass_time(self) -> None:
        self.world.pass_time()

    def partition(self) -> Partition:
        return self.random.choice(PARTITIONS)

    def worker(self) -> int:
        return self.random.choice(WORKERS)


def simulate(seeds: Iterable[int], parts: Parts | None = None) -> None:
    for seed in seeds:
        world = World(parts)
        try:
            Schedule(seed, world).run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        finally:
            world.close()


def test_thousands_of_schedules_break_no_promise() -> None:
    simulate(range(SEEDS))


BOUNDS = Bounds(records_max=5, bytes_max=2_000, seconds_max=1.0)


def gathering(lanes: Callable[..., Lanes] = GatheringLanes, bounds: Bounds = BOUNDS) -> Parts:
    """Return the product with lanes that gather."""
    tracker = partial(OffsetTracker, in_flight=bounds.in_flight)
    return Parts(lanes=partial(lanes, bounds=bounds), tracker=tracker, gathering=bounds)


def test_thousands_of_schedules_with_gathered_batches_break_no_promise() -> None:
    simulate(range(SEEDS), gathering())


def test_a_dead_letter_stays_the_only_end_of_its_record_when_its_slice_comes_again_after_its_run_was_closed() -> None:
    world = World()
    for kind in (Kind.UNSTORABLE, Kind.FINALIZED):
        world.append(kind, "run-a")
    store_without_a_commit(world, 2)
    world.cut_off(RUNS["run-a"], 0)
    world.recover()
    world.close()


def test_a_repeated_event_is_a_duplicate_even_in_the_slice_that_closes_its_run() -> None:
    world = World()
    world.append(Kind.NEXT, "run-a")
    store_without_a_commit(world, 1)
    for kind in (Kind.FINALIZED, Kind.AGAIN):
        world.append(kind, "run-a")
    world.recover()
    world.close()


def store_without_a_commit(world: World, count: int) -> None:
    """Bring the first *count* records of run-a to their end."""
    world.assign(RUNS["run-a"], 0)
    world.fetch(RUNS["run-a"], count, 0)
    for _ in range(20):
        world.answer(0, Fate.DONE)


class AnySchedule(RuleBasedStateMachine):
    """The same world with hypothesis as its schedule, which shrinks what it finds to a few steps."""

    partitions = st.sampled_from(PARTITIONS)
    workers = st.sampled_from(WORKERS)

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(records=st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(RUN_IDS)), max_size=20))
    def begin(self, records: list[tuple[Kind, str]]) -> None:
        for kind, run_id in records:
            self.world.append(kind, run_id)
        for partition in PARTITIONS:
            self.world.assign(partition, 0)

    @rule(kind=st.sampled_from(KINDS), run_id=st.sampled_from(RUN_IDS))
    def append(self, kind: Kind, run_id: str) -> None:
        self.world.append(kind, run_id)

    @rule(partition=partitions, worker=workers)
    def assign(self, partition: Partition, worker: int) -> None:
        self.world.assign(partition, worker)

    @rule(partition=partitions, count=st.integers(1, 8), worker=workers)
    def fetch(self, partition: Partition, count: int, worker: int) -> None:
        self.world.fetch(partition, count, worker)

    @rule(index=st.integers(0, 9), fate=st.sampled_from(FATES))
    def answer(self, index: int, fate: Fate) -> None:
        self.world.answer(index, fate)

    @rule(fates=st.lists(st.sampled_from(FATES), min_size=5, max_size=10))
    def answer_the_oldest(self, fates: list[Fate]) -> None:
        for fate in fates:
            self.world.answer(0, fate)

    @rule(partition=partitions, worker=workers)
    def commit(self, partition: Partition, worker: int) -> None:
        self.world.commit(partition, worker)

    @rule(partition=partitions, worker=workers)
    def revoke(self, partition: Partition, worker: int) -> None:
        self.world.revoke(partition, worker)

    @rule()
    def pass_time(self) -> None:
        self.world.pass_time()

    @rule(partition=partitions, worker=workers)
    def cut_off(self, partition: Partition, worker: int) -> None:
        self.world.cut_off(partition, worker)

    @rule(partition=partitions)
    def expire(self, partition: Partition) -> None:
        self.world.expire(partition)

    @rule(worker=workers)
    def crash(self, worker: int) -> None:
        self.world.crash(worker)

    def teardown(self) -> None:
        try:
            self.world.recover()
        finally:
            self.world.close()


AnySchedule.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestAnySchedule = AnySchedule.TestCase


# Mutations: mistakes that the simulation must see.


class AcksBeforeStoring(Lanes):
    """Counts a slice as finished when it is handed to its lane."""

    def dispatch(self, batch: Batch) -> None:
        self._finished(batch)
        super().dispatch(batch)


class TwoTasks(Lanes):
    """Lets two tasks work on one partition."""

    def dispatch(self, batch: Batch) -> None:
        is_new = batch.partition not in self._tasks
        super().dispatch(batch)
        if is_new:
            self._second = asyncio.create_task(self._run(self._queues[batch.partition]))


class CommitsPastUnfinished(OffsetTracker):
    """Takes the end of the last open batch for the end of the finished prefix."""

    def finish(self, batch: Batch) -> None:
        super().finish(batch)
        held = self._assigned.get(batch.partition)
        if held and held.batches:
            held.pending_commit = held.batches[-1].end_offset


class StopsAtMarkers(OffsetTracker):
    """Waits for a record behind the offsets that hold none."""

    def skip_to(self, partition: Partition, position: int, committed: int | None) -> None:
        """Do nothing."""


class PassesOpenBatchesBy(OffsetTracker):
    """Takes the position for what is done, although a batch is open."""

    def skip_to(self, partition: Partition, position: int, committed: int | None) -> None:
        held = self._assigned.get(partition)
        if held is not None and position > (committed or 0):
            held.pending_commit = position


class HasAlwaysRoom(OffsetTracker):
    """Bounds nothing."""

    def has_room(self, partition: Partition) -> bool:
        return partition in self._assigned


class SkipsOnTransient(Delivery):
    """Tries once."""

    async def _until_possible(self, partition: Partition, attempt: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await attempt()
        except Transient:
            return Settled(Tally())


class DropsDeadLetters(Delivery):
    """Does not wait for the acknowledgement of a dead letter."""

    async def _write(self, topic: Topic, letter: Any) -> None:
        self._unawaited = asyncio.create_task(super()._write(topic, letter))


class BuriesNeighbours(Delivery):
    """Takes a whole slice for poison."""

    async def _handle(self, partition: Partition, arrivals: Sequence[Arrival], *, counted: int) -> None:
        try:
            await self._until_possible(partition, lambda: self._handler(arrivals))
        except Poison as poison:
            for each in arrivals:
                await self._dead_letter(partition, each.raw, poison.reason, poison.detail)


class WorksBackHalfFirst(Delivery):
    """Stores the later half of a slice with poison before the earlier."""

    async def _handle(self, partition: Partition, arrivals: Sequence[Arrival], *, counted: int) -> None:
        if not arrivals:
            return
        try:
            await self._until_possible(partition, lambda: self._handler(arrivals))
        except Poison as poison:
            if len(arrivals) == 1:
                await self._dead_letter(partition, arrivals[0].raw, poison.reason, poison.detail)
            else:
                middle = len(arrivals) // 2
                await self._handle(partition, arrivals[middle:], counted=counted)
                await self._handle(partition, arrivals[:middle], counted=counted)


class CutsBytes(Delivery):
    """Writes a dead letter without the end of its record."""

    async def _dead_letter(self, partition: Partition, raw: RawRecord, *why: Any, counted: bool = False) -> None:
        cut = replace(raw, value=(raw.value or b"")[:-1])  # type: ignore[type-var]
        await super()._dead_letter(partition, cut, *why, counted=counted)


class WaitsForTheNextRecord(GatheringLanes):
    """Has no timer: a batch that is not full waits until more is fetched."""

    async def _following(self, lane: GatheringLane, gathered: Sequence[Batch]) -> Batch | None:
        return await super()._following(lane, gathered[:0])


class FinishesWhatIsGathered(GatheringLanes):
    """Counts a slice as finished once it has joined a batch."""

    async def _following(self, lane: GatheringLane, gathered: Sequence[Batch]) -> Batch | None:
        if gathered:
            self._finished(gathered[-1])
        return await super()._following(lane, gathered)


class WorksTheLastSlice(GatheringLanes):
    """Takes a gathered batch for its last slice."""

    async def _next(self, lane: Lane) -> Batch:
        batch = await super()._next(lane)
        return batch.slices[-1]


class GathersWithoutBound(Bounds):
    """Lets every slice join."""

    def hold(self, size_bytes: int) -> bool:
        return True

    def share_window(self, first: int, second: int) -> bool:
        return True

    def are_reached(self, end_offset: int, size_bytes: int) -> bool:
        return False


class GathersAcrossWindows(Bounds):
    """Lets a batch go on beyond a multiple of its size."""

    def share_window(self, first: int, second: int) -> bool:
        return True


class PutsBackNothing(GatheringLanes):
    """Drops the slice that did not fit."""

    async def _following(self, lane: GatheringLane, gathered: Sequence[Batch]) -> Batch | None:
        lane.put_back = None
        return await super()._following(lane, gathered)


def forgets_places(arrivals: Sequence[Arrival], known: StoredState) -> Verdicts:
    """Take a redelivery for a duplicate."""
    known.at = {}
    return judge(arrivals, known)


def forgets_ends(arrivals: Sequence[Arrival], known: StoredState) -> Verdicts:
    """Take what comes after the end of its run."""
    known.finalized = {}
    return judge(arrivals, known)


def drops_rejected(arrivals: Sequence[Arrival], known: StoredState) -> Verdicts:
    """Keep no rejected record."""
    verdicts = judge(arrivals, known)
    verdicts.rejected = []
    return verdicts


MUTATIONS: dict[str, tuple[Parts, str]] = {
    "ack before the store": (Parts(lanes=AcksBeforeStoring), "P5"),
    "two tasks on one lane": (Parts(lanes=TwoTasks), "P2"),
    "commit past an unfinished slice": (Parts(tracker=CommitsPastUnfinished), "P5"),
    "commit what is open": (Parts(tracker=PassesOpenBatchesBy), "P5"),
    "stop at markers": (Parts(tracker=StopsAtMarkers), "P6"),
    "no bound": (Parts(tracker=HasAlwaysRoom), "room"),
    "skip on an outage": (Parts(delivery=SkipsOnTransient), "P5"),
    "dead letter without its ack": (Parts(delivery=DropsDeadLetters), "P5"),
    "neighbours of poison are poison": (Parts(delivery=BuriesNeighbours), "P1"),
    "later half first": (Parts(delivery=WorksBackHalfFirst), "P2"),
    "dead letter without its bytes": (Parts(delivery=CutsBytes), "P1"),
    "forget places": (Parts(judge=forgets_places), "P1"),
    "forget ends of runs": (Parts(judge=forgets_ends), "P1"),
    "drop what is rejected": (Parts(judge=drops_rejected), "P5"),
    "gather until the next record": (gathering(WaitsForTheNextRecord), "P6"),
    "finish what is gathered": (gathering(FinishesWhatIsGathered), "P5"),
    "work the last slice of a batch": (gathering(WorksTheLastSlice), "P6"),
    "gather without a bound": (gathering(bounds=GathersWithoutBound(**asdict(BOUNDS))), "bounds"),
    "gather across a multiple of the size": (gathering(bounds=GathersAcrossWindows(**asdict(BOUNDS))), "bounds"),
    "drop the slice that does not fit": (gathering(PutsBackNothing), "P"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mistake_is_seen_to_break_its_promise(mutation: str) -> None:
    parts, promise = MUTATIONS[mutation]
    assert any(promise in broken(seed, parts) for seed in range(SEEDS_OF_A_MUTATION))


def broken(seed: int, parts: Parts) -> str:
    """Return what the schedule of *seed* is seen to break, if anything."""
    try:
        simulate([seed], parts)
    except AssertionError as error:
        return str(error)
    return ""
