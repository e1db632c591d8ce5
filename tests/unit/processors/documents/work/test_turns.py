"""Lanes share by weight in cost, nobody is lost, and no slot leaks."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, cycle, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.documents.work.turns import QUANTUM_COST, FairTurns
from schemas.documents.states import LANE_WEIGHTS, Lane

HIGH, NORMAL, LOW = Lane.HIGH, Lane.NORMAL, Lane.LOW


@dataclass(eq=False)
class Caller:
    """One who wants a turn, and holds it until a test ends it."""

    turns: FairTurns
    lane: Lane
    cost: int
    started: list["Caller"]  # in the order of the turns
    end: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        async with self.turns.turn(self.lane, self.cost):
            self.started.append(self)
            await self.end.wait()


class Office:
    """Turns, and callers that come, end and give up when a test has it so."""

    def __init__(self, slots: int) -> None:
        self.turns = FairTurns(slots)
        self.started: list[Caller] = []

    async def come(self, lane: Lane, cost: int = 1, *, callers: int = 1) -> list[Caller]:
        came = [Caller(self.turns, lane, cost, self.started) for _ in range(callers)]
        await settle()
        return came

    async def end(self, caller: Caller) -> None:
        caller.end.set()
        await settle()

    async def close(self) -> None:
        """End every turn in its order until nobody is left."""
        for place in count():
            if place == len(self.started):
                break
            if not self.started[place].task.done():
                await self.end(self.started[place])
        assert self.turns.in_progress == 0
        assert [self.turns.waiting(lane) for lane in Lane] == [0, 0, 0]


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def served(
    costs: Mapping[Lane, Iterator[int]], *, turns: int, slots: int = 2, callers: int = 8
) -> Mapping[Lane, int]:
    """Return the cost that each lane got on with while *callers* of each came again as soon as they had ended."""
    queue, done, left = FairTurns(slots), Counter[Lane](), turns

    async def work(lane: Lane) -> None:
        nonlocal left
        while left > 0:
            cost = next(costs[lane])
            async with queue.turn(lane, cost):
                left -= 1
                done[lane] += cost if left >= 0 else 0
                await asyncio.sleep(0)

    await asyncio.gather(*(work(lane) for lane in costs for _ in range(callers)))
    assert queue.in_progress == 0
    return done


def share(done: Mapping[Lane, int], lane: Lane) -> float:
    return done[lane] / sum(done.values())


@pytest.mark.parametrize("slots", [1, 2, 6])
async def test_while_all_lanes_are_saturated_each_has_its_share_of_the_cost(slots: int) -> None:
    costs = {HIGH: cycle([12_000, 300, 4_000]), NORMAL: cycle([15_000, 2_000]), LOW: cycle([500, 9_000])}
    done = await served(costs, turns=3000, slots=slots)
    assert share(done, LOW) == pytest.approx(1 / 12, rel=0.2)
    assert share(done, NORMAL) == pytest.approx(3 / 12, rel=0.2)
    assert share(done, HIGH) == pytest.approx(8 / 12, rel=0.2)


async def test_an_unused_share_goes_to_the_others_by_their_weights() -> None:
    done = await served({HIGH: repeat(5_000), LOW: repeat(5_000)}, turns=2000)
    assert share(done, LOW) == pytest.approx(1 / 9, rel=0.1)


async def test_shares_are_of_cost_and_not_of_turns() -> None:
    """Two hundred thousand characters a turn in one lane, a thousand in the other."""
    done = await served({HIGH: repeat(1_000), LOW: repeat(200_000)}, turns=20_000)
    assert share(done, LOW) == pytest.approx(1 / 9, rel=0.2)
    done = await served({HIGH: repeat(200_000), LOW: repeat(1_000)}, turns=10_000)
    assert share(done, LOW) == pytest.approx(1 / 9, rel=0.2)


async def test_with_low_saturated_high_waits_only_for_the_turns_in_progress() -> None:
    office = Office(slots=2)
    await office.come(LOW, 15_000, callers=5_000)
    for _ in range(20):
        await office.end(next(each for each in office.started if not each.task.done()))
    before = len(office.started)
    [caller] = await office.come(HIGH, 15_000)
    assert office.turns.waiting(HIGH) == 1
    await office.end(next(each for each in office.started if not each.task.done()))
    assert office.started[before:] == [caller]
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def test_an_idle_lane_saves_up_nothing() -> None:
    office = Office(slots=1)
    await office.come(LOW, QUANTUM_COST, callers=100)
    for place in range(50):
        await office.end(office.started[place])
    await office.come(HIGH, QUANTUM_COST, callers=120)
    for place in range(50, 140):
        await office.end(office.started[place])
    lanes = [each.lane for each in office.started[51:141]]
    assert lanes.count(LOW) == pytest.approx(10, abs=1)
    await office.close()


async def test_a_lane_pays_for_a_large_turn_though_nobody_waits_in_it_meanwhile() -> None:
    """Who comes with one large document after the other must not get a turn for each that another lane gets."""
    office = Office(slots=1)
    [large] = await office.come(LOW, 100 * QUANTUM_COST)
    await office.come(HIGH, QUANTUM_COST, callers=1000)
    await office.end(large)
    await office.come(LOW, 100 * QUANTUM_COST)
    place = 1
    while office.started[-1].lane is HIGH:
        await office.end(office.started[place])
        place += 1
    assert place == pytest.approx(800, abs=10)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def test_a_lane_is_served_in_the_order_of_its_callers() -> None:
    office = Office(slots=2)
    came = [(await office.come(NORMAL, cost))[0] for cost in (5, 90_000, 1, 40_000, 7)]
    await office.close()
    assert office.started == came


async def test_one_lane_alone_has_every_slot() -> None:
    office = Office(slots=4)
    await office.come(LOW, 10_000, callers=6)
    assert office.turns.in_progress == 4
    assert office.turns.waiting(LOW) == 2
    await office.close()


async def test_a_cancelled_caller_takes_nothing() -> None:
    office = Office(slots=1)
    [first] = await office.come(LOW)
    [second, third] = await office.come(LOW, callers=2)
    second.task.cancel()
    await settle()
    assert office.turns.waiting(LOW) == 1
    await office.end(first)
    assert office.started == [first, third]
    await office.close()


async def test_a_turn_that_is_given_in_the_moment_of_a_cancellation_goes_to_the_next() -> None:
    """Given first and cancelled then, or the other way round, before its task has run."""
    for is_given_first in (True, False):
        office = Office(slots=1)
        [first] = await office.come(LOW)
        [second, third] = await office.come(LOW, 100_000, callers=2)
        first.task.cancel()
        if is_given_first:
            await asyncio.sleep(0)
        second.task.cancel()
        await settle()
        assert office.started == [first, third]
        assert office.turns.in_progress == 1
        await office.close()


async def test_a_turn_that_was_given_and_not_used_costs_nothing() -> None:
    office = Office(slots=1)
    [first] = await office.come(NORMAL)
    [second] = await office.come(HIGH, 1_000_000)
    first.task.cancel()
    await asyncio.sleep(0)  # the turn is given to the second, which has not run yet
    second.task.cancel()
    await settle()
    [running] = await office.come(NORMAL)
    await office.come(LOW)
    [high] = await office.come(HIGH)
    await office.end(running)
    assert office.started[-1] is high
    await office.close()


async def test_work_that_fails_or_is_cancelled_frees_its_slot() -> None:
    turns = FairTurns(1)
    with pytest.raises(RuntimeError, match="broken"):
        async with turns.turn(HIGH, 10):
            raise RuntimeError("broken")
    office = Office(slots=1)
    [first] = await office.come(HIGH)
    first.task.cancel()
    await settle()
    assert (turns.in_progress, office.turns.in_progress) == (0, 0)


async def test_empty_documents_cannot_keep_the_slots() -> None:
    done = await served({HIGH: repeat(0), LOW: repeat(QUANTUM_COST)}, turns=20_000)
    assert done[LOW] >= 2 * QUANTUM_COST


async def test_the_longest_wait_is_shown_by_lane() -> None:
    now_s = 50.0
    turns = FairTurns(1, clock_s=lambda: now_s)
    async with turns.turn(HIGH, 1):
        assert turns.oldest_wait_s(LOW) == 0.0
        waiting = asyncio.create_task(turns.turn(LOW, 1).__aenter__())
        await settle()
        now_s = 57.5
        assert turns.oldest_wait_s(LOW) == 7.5
        waiting.cancel()
        await settle()
        assert turns.oldest_wait_s(LOW) == 0.0


@pytest.mark.parametrize(("slots", "weights"), [(0, LANE_WEIGHTS), (1, {HIGH: 1, LOW: 0})])
def test_without_slots_or_weights_nobody_would_get_on(slots: int, weights: Mapping[Lane, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        FairTurns(slots, weights)


COSTS = st.lists(st.integers(1, 50_000), min_size=1, max_size=10)


@given(COSTS, COSTS, COSTS, st.integers(1, 4))
def test_shares_converge_whatever_the_documents_cost(
    high: list[int], normal: list[int], low: list[int], slots: int
) -> None:
    """
    What a lane got, by its weight, differs from another's by no more than two turns and rounds.

    Beside these, the first to come have every slot before the others are there.
    """
    costs = {HIGH: cycle(high), NORMAL: cycle(normal), LOW: cycle(low)}
    done = asyncio.run(served(costs, turns=300, slots=slots))
    by_weight = [done[lane] / weight for lane, weight in LANE_WEIGHTS.items()]
    largest = [max(each) / LANE_WEIGHTS[lane] for lane, each in ((HIGH, high), (NORMAL, normal), (LOW, low))]
    assert max(by_weight) - min(by_weight) <= (slots + 2) * max(largest) + 2 * QUANTUM_COST


Action = tuple[str, Lane | int, int]
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from(Lane), st.integers(0, 100_000)),
        st.tuples(st.just("end"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("cancel"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("settle"), st.just(0), st.just(0)),
    ),
    max_size=80,
)


@given(ACTIONS, st.integers(1, 4))
def test_whatever_happens_nobody_is_lost_and_no_slot_leaks(actions: list[Action], slots: int) -> None:
    asyncio.run(interleaved(actions, slots))


async def interleaved(actions: list[Action], slots: int) -> None:
    """Do *actions*, some of them in one moment, and check between."""
    office, came, cancelled, seen = Office(slots), list[Caller](), set[Caller](), 0
    for action, subject, cost in [*actions, ("settle", 0, 0)]:
        if action == "come":
            assert isinstance(subject, Lane)
            came.append(Caller(office.turns, subject, cost, office.started))
        elif action == "settle":
            await settle()
            # Of turns that are given in one moment, one that nobody waited for begins before one that is waited for.
            office.started[seen:] = sorted(office.started[seen:], key=came.index)
            seen = len(office.started)
            working = [each for each in office.started if not each.task.done()]
            waiting = deque(each for each in came if not each.task.done() and each not in office.started)
            assert office.turns.in_progress == len(working) <= slots
            assert sum(map(office.turns.waiting, Lane)) == len(waiting)
            assert len(working) == slots or not waiting
        elif action == "end" and office.started:
            assert isinstance(subject, int)
            office.started[-1 - subject % len(office.started)].end.set()
        elif action == "cancel" and came:
            assert isinstance(subject, int)
            caller = came[subject % len(came)]
            if caller.task.cancel():
                cancelled.add(caller)
    await office.close()
    for lane in Lane:
        started = [each for each in office.started if each.lane is lane]
        assert started == [each for each in came if each in started]
    assert {*came} - cancelled <= {*office.started}
    assert len(office.started) == len({*office.started})
    assert all(each.task.done() for each in came)
