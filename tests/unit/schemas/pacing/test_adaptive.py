"""The controller gives permits at its rate, and the rate follows the queue."""

import asyncio
import json
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.pacing.adaptive import AdaptiveConfig, AdaptiveController, AdaptiveControllerPresets
from schemas.pacing.presets import CONSERVATIVE, Preset

PRESETS = [
    AdaptiveControllerPresets.CONSERVATIVE,
    AdaptiveControllerPresets.BALANCED,
    AdaptiveControllerPresets.AGGRESSIVE,
]


class Clock:
    """A clock that is moved by whoever sleeps, or by a test."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.slept_s.append(delay_s)
        self.now_s += delay_s


@pytest.fixture
def clock() -> Iterator[Clock]:
    return Clock()


def controller_of(clock: Clock, config: AdaptiveConfig = AdaptiveControllerPresets.CONSERVATIVE) -> AdaptiveController:
    return AdaptiveController(config, clock_s=clock, sleep=clock.sleep)


def rates(clock: Clock, config: AdaptiveConfig, *depths: int) -> list[float]:
    """Return the multipliers a second after each of *depths*, in hundredths of what the queue holds."""
    controller, multipliers = controller_of(clock, config), []
    for depth in depths:
        controller.update_queue_depth(depth, 100)
        clock.now_s += 1
        multipliers.append(controller.get_metrics()["current_rate_multiplier"])
    return multipliers


async def test_permits_come_at_the_rate_of_the_preset(clock: Clock) -> None:
    controller = controller_of(clock)
    for _ in range(100):
        assert await controller.acquire_permit()
    assert clock.now_s == pytest.approx(1010)
    assert len(clock.slept_s) == 100


async def test_after_a_pause_a_second_of_permits_comes_at_once(clock: Clock) -> None:
    controller = controller_of(clock)
    clock.now_s += 60
    for _ in range(10):
        assert await controller.acquire_permit()
    assert clock.slept_s == []
    await controller.acquire_permit()
    assert clock.slept_s == [pytest.approx(0.1)]


async def test_a_permit_for_many_is_given_once_there_is_room_for_one_and_paid_off(clock: Clock) -> None:
    controller = controller_of(clock)
    clock.now_s += 1
    assert await controller.acquire_permit(tokens=100.0)
    assert controller.get_metrics()["tokens_available"] == pytest.approx(-90)
    assert await controller.acquire_permit()
    assert clock.slept_s == [pytest.approx(9.1)]


async def test_whoever_would_wait_too_long_is_refused_at_once_and_takes_nothing(clock: Clock) -> None:
    controller = controller_of(clock, AdaptiveConfig(preset=CONSERVATIVE, wait_max_s=2.0))
    clock.now_s += 1
    await controller.acquire_permit(tokens=100.0)
    assert not await controller.acquire_permit()
    assert clock.slept_s == []
    clock.now_s += 7.1
    assert await controller.acquire_permit()


async def test_those_who_wait_at_once_get_on_one_after_the_other() -> None:
    """Each waits for the tokens of all before it; none is woken only to wait again."""
    clock, due_s = Clock(), []

    async def note(delay_s: float) -> None:
        due_s.append(delay_s)
        await asyncio.sleep(0)

    controller = AdaptiveController(AdaptiveControllerPresets.CONSERVATIVE, clock_s=clock, sleep=note)
    assert all(await asyncio.gather(*(controller.acquire_permit() for _ in range(20))))
    assert [later - earlier for earlier, later in pairwise(due_s)] == [pytest.approx(0.1)] * 19


async def test_a_cancelled_waiter_takes_nothing(clock: Clock) -> None:
    async def forever(_: float) -> None:
        await asyncio.Event().wait()

    controller = AdaptiveController(AdaptiveControllerPresets.CONSERVATIVE, clock_s=clock, sleep=forever)
    waiter = asyncio.create_task(controller.acquire_permit(tokens=5.0))
    await asyncio.sleep(0)
    assert controller.get_metrics()["tokens_available"] == -5
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert controller.get_metrics()["tokens_available"] == 0


@pytest.mark.parametrize("tokens", [0.0, -1.0, float("nan"), float("inf")])
async def test_a_permit_for_nothing_is_refused(clock: Clock, tokens: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        await controller_of(clock).acquire_permit(tokens)


def test_a_queue_without_a_bound_is_refused(clock: Clock) -> None:
    with pytest.raises(ValueError, match="max_depth is 0"):
        controller_of(clock).update_queue_depth(0, 0)


@pytest.mark.parametrize("config", PRESETS)
def test_a_full_queue_lowers_the_rate_by_the_factor_of_the_preset_down_to_a_fifth(
    clock: Clock, config: AdaptiveConfig
) -> None:
    factor = config.preset.falling
    assert rates(clock, config, 81, 95, 95, 95) == [pytest.approx(max(0.2, factor**seconds)) for seconds in range(1, 5)]


@pytest.mark.parametrize("config", PRESETS)
def test_an_empty_queue_raises_the_rate_by_a_fifth_a_second_up_to_twice(clock: Clock, config: AdaptiveConfig) -> None:
    assert rates(clock, config, 29, 0, 0, 0, 0) == [pytest.approx(min(2.0, 1.2**seconds)) for seconds in range(1, 6)]


@pytest.mark.parametrize("config", PRESETS)
def test_half_a_queue_keeps_the_rate(clock: Clock, config: AdaptiveConfig) -> None:
    assert rates(clock, config, 50, 50, 50) == [pytest.approx(1.0)] * 3


def test_the_rate_follows_the_last_depth_while_permits_are_taken(clock: Clock) -> None:
    """One update suffices: nobody need tell the same again for the rate to go on."""

    async def take(seconds: float) -> None:
        until_s = clock.now_s + seconds
        while clock.now_s < until_s:
            await controller.acquire_permit()

    controller = controller_of(clock)
    controller.update_queue_depth(current_depth=90, max_depth=100)
    asyncio.run(take(10))
    assert controller.get_metrics()["current_rate_multiplier"] == pytest.approx(0.2)


def test_without_a_known_depth_the_rate_stays(clock: Clock) -> None:
    controller = controller_of(clock)
    clock.now_s += 100
    assert controller.get_metrics()["current_rate_multiplier"] == 1.0


def test_the_metrics_are_plain_numbers_that_json_can_carry(clock: Clock) -> None:
    controller = controller_of(clock)
    assert controller.get_metrics()["avg_processing_time_ms"] == 0.0
    controller.record_processing(0.2, success=True)
    controller.record_processing(9.0, success=False)
    controller.record_processing(0.4, True)
    controller.update_queue_depth(current_depth=50, max_depth=1000)
    assert json.loads(json.dumps(controller.get_metrics())) == {
        "current_rate_multiplier": 1.0,
        "queue_depth": 50,
        "tokens_available": 0.0,
        "avg_processing_time_ms": pytest.approx(220),
    }


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 200), st.floats(0, 5)), max_size=50),
    st.floats(0.01, 1e4),
    st.floats(0.01, 0.99),
    st.floats(1, 1e3),
)
def test_the_multiplier_never_leaves_its_bounds(
    updates: list[tuple[int, int, float]], rate_per_s: float, falling: float, depth_max_s: float
) -> None:
    clock = Clock()
    preset = Preset(rate_per_s=rate_per_s, falling=falling, depth_max_s=depth_max_s)
    controller = controller_of(clock, AdaptiveConfig(preset=preset))
    for current, most, pause_s in updates:
        controller.update_queue_depth(current, most)
        clock.now_s += pause_s
        assert 0.2 - 1e-9 <= controller.get_metrics()["current_rate_multiplier"] <= 2.0 + 1e-9


class Queue:
    """A closed loop: permits fill a queue that is emptied at a rate."""

    def __init__(self, config: AdaptiveConfig, *, capacity: int) -> None:
        self.clock = Clock()
        self.controller = controller_of(self.clock, config)
        self.capacity = capacity
        self.depth = 0.0

    async def run(self, seconds: int, *, drain_per_s: float) -> list[int]:
        """Take every permit there is, and return how many came in each second."""
        taken = []
        for _ in range(seconds):
            self.controller.update_queue_depth(int(self.depth), self.capacity)
            until_s, count = self.clock.now_s + 1, 0
            while self.clock.now_s < until_s:
                assert await self.controller.acquire_permit()
                count += 1
            self.depth = max(0.0, self.depth + count - drain_per_s)
            taken.append(count)
        return taken


@pytest.mark.parametrize("part", [0.5, 1.0, 1.5])
async def test_permits_settle_at_what_the_queue_is_emptied_by(part: float) -> None:
    """Whether the workers are slower or faster than the preset has it."""
    queue = Queue(AdaptiveControllerPresets.BALANCED, capacity=50 * 120)
    drain_per_s = part * 50
    await queue.run(300, drain_per_s=drain_per_s)
    for count in await queue.run(100, drain_per_s=drain_per_s):
        assert abs(count - drain_per_s) <= 0.1 * drain_per_s
    assert 0.3 < queue.depth / queue.capacity < 0.8
