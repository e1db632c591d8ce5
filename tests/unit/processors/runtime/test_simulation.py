"""The delivery loop, the tracker and the judgement of runs together, through thousands of seeds of faults."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from structlog.testing import capture_logs

from processors.runtime.batch import Batch, Partition
from processors.runtime.delivery import Delivery
from processors.runtime.errors import Transient
from processors.runtime.lanes import Lanes
from processors.runtime.outcomes import Tally
from processors.runtime.progress import Progress
from tests.simulation import RUNS, SLICE_RECORDS_MAX, How, Kind, World, live

SEEDS = 2_000
SEEDS_OF_A_MUTATION = 300  # within so many it must be seen
STEPS = 60


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """Thousands of worlds have nothing to say."""
    with capture_logs():
        yield


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One loop for many worlds."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


def live_through(loop: asyncio.AbstractEventLoop, seeds: int, **variant: Any) -> None:
    """Live through many seeds; the first that breaks a promise is named."""
    for seed in range(seeds):
        world = World(loop, **variant)
        try:
            live(world, Random(seed), steps=STEPS)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        finally:
            world.close()


def test_whatever_fails_the_end_is_as_if_nothing_had(loop: asyncio.AbstractEventLoop) -> None:
    live_through(loop, SEEDS)


class AckFirst(Lanes):
    """Acknowledges a slice before its effect."""

    def dispatch(self, batch: Batch) -> None:
        self._finished(batch)
        super().dispatch(batch)


class TwoAtOnce(Lanes):
    """Two tasks work on one partition."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._second: dict[Partition, asyncio.Task[None]] = {}

    def dispatch(self, batch: Batch) -> None:
        super().dispatch(batch)
        if batch.partition not in self._second:
            self._second[batch.partition] = asyncio.create_task(self._run(self._queues[batch.partition]))

    async def cancel(self, partitions: Any) -> None:
        await super().cancel(partitions)
        for task in self._second.values():
            task.cancel()
        if self._second:
            await asyncio.wait(self._second.values())
        self._second.clear()


class Hasty(Progress):
    """Commits past slices that are not finished."""

    def finish(self, batch: Batch) -> None:
        super().finish(batch)
        held = self._assigned.get(batch.partition)
        if held and held.batches:
            held.reached = held.batches[-1].end_offset


class GivesUp(Delivery):
    """Drops a slice when what it needs is away."""

    async def _until_possible(self, partition: Any, attempt: Any) -> Tally:
        try:
            return Tally(await attempt())
        except Transient:
            return Tally()


class BuriesInPassing(Delivery):
    """Does not wait for a dead letter to be acknowledged."""

    async def _write_dead_letter(self, letter: Any) -> Tally:
        with suppress(Transient):
            await super()._write_dead_letter(letter)
        return Tally()


@pytest.mark.parametrize(
    ("variant", "promise"),
    [
        ({"lanes": AckFirst}, "P5"),
        ({"lanes": TwoAtOnce}, "P2"),
        ({"progress": Hasty}, "P5"),
        ({"delivery": GivesUp}, "P5"),
        ({"delivery": BuriesInPassing}, "P5"),
        ({"keys": False}, "P"),
    ],
    ids=["ack first", "two at once", "hasty", "gives up", "buries in passing", "no keys"],
)
def test_a_mistake_is_seen(loop: asyncio.AbstractEventLoop, variant: dict[str, Any], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        live_through(loop, SEEDS_OF_A_MUTATION, **variant)


class Loop(RuleBasedStateMachine):
    """The same world, its steps drawn by hypothesis, which shrinks what fails."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World(self.loop)

    @rule(partition=st.sampled_from(sorted(RUNS)), run=st.integers(0, 1), kind=st.sampled_from(Kind))
    def append(self, partition: int, run: int, kind: Kind) -> None:
        self.world.append(partition, run, kind)

    @rule(partition=st.sampled_from(sorted(RUNS)), count=st.integers(1, SLICE_RECORDS_MAX))
    def fetch(self, partition: int, count: int) -> None:
        self.world.fetch(partition, count)

    @rule(pick=st.integers(0, 3), how=st.sampled_from(How))
    def answer(self, pick: int, how: How) -> None:
        self.world.answer(pick, how)

    @rule(how=st.sampled_from(How))
    def commit(self, how: How) -> None:
        self.world.commit(how)

    @rule()
    def next_worker(self) -> None:
        self.world.next_worker()

    @rule(pick=st.integers(0, 3))
    def late(self, pick: int) -> None:
        self.world.late(pick)

    @invariant()
    def every_promise_holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        self.world.finish()
        self.world.close()
        self.loop.close()


TestLoop = Loop.TestCase
TestLoop.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
