"""What waits in a lane decides how much more may come to it, and says how long that takes."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.documents.pace import ITEM_COST, DocumentPace, DrainRate
from gateway.documents.store import LaneWork
from gateway.errors import SlowedDown, StoreUnavailable
from schemas.documents.states import Lane
from schemas.documents.topics import EMBED
from schemas.pacing.presets import BALANCED, PRESETS, Preset
from schemas.process.telemetry import ADMISSION_MULTIPLIER, Telemetry

DONE_PER_S = 1_000
EVERY_PRESET = pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))


class Lanes:
    """Lanes whose work the test says, and a pace that looks at them once a second."""

    def __init__(self, preset: Preset = BALANCED) -> None:
        self.costs: dict[Lane, int] = {}
        self.done_per_s: dict[Lane, int] = {}
        self.oldest_s: float | None = None
        self.is_away = False
        self.now_s = 0.0
        self.telemetry = Telemetry((ADMISSION_MULTIPLIER,))
        self.pace = DocumentPace(self._look, preset, telemetry=self.telemetry, clock_s=lambda: self.now_s)
        self._done: dict[Lane, int] = dict.fromkeys(Lane, 0)

    async def seconds(self, count: int) -> None:
        """Go on for so many seconds."""
        for _ in range(count):
            for lane, per_s in self.done_per_s.items():
                self._done[lane] += per_s
            self.now_s += 1
            await self.pace.refresh()

    def is_admitted(self, lane: Lane = Lane.NORMAL, cost: int = 1) -> bool:
        """Return True if *cost* is admitted to *lane*."""
        try:
            self.pace.admit({lane: cost})
        except SlowedDown:
            return False
        return True

    async def _look(self) -> Mapping[Lane, LaneWork]:
        if self.is_away:
            raise StoreUnavailable("away")
        return {
            lane: LaneWork(count=1, cost=self.costs.get(lane, 0), done_cost=self._done[lane], oldest_s=self.oldest_s)
            for lane in Lane
        }


def moving(*, depth_s: float, preset: Preset = BALANCED, lane: Lane = Lane.NORMAL) -> Lanes:
    """Return lanes of which one has so many seconds of work and is drained."""
    lanes = Lanes(preset)
    lanes.done_per_s = {lane: DONE_PER_S}
    lanes.costs = {lane: int(depth_s * DONE_PER_S)}
    return lanes


async def test_a_shallow_lane_has_no_limit() -> None:
    lanes = moving(depth_s=30)
    await lanes.seconds(60)
    assert lanes.is_admitted(cost=10**9)
    assert (lanes.pace.multiplier, lanes.pace.tokens_available) == (1.0, None)


@EVERY_PRESET
async def test_a_lane_at_its_bound_refuses_with_a_time_and_admits_again_when_it_is_drained(preset: Preset) -> None:
    lanes = moving(depth_s=2 * preset.depth_max_s, preset=preset)
    await lanes.seconds(200)
    with pytest.raises(SlowedDown) as raised:
        lanes.pace.admit({Lane.NORMAL: 1})
    assert raised.value.retry_after_s == min(60, preset.depth_max_s / 2)
    assert lanes.pace.multiplier == pytest.approx(0.2)
    lanes.costs = {}
    await lanes.seconds(15)
    assert lanes.is_admitted(cost=10**6)


async def test_between_the_admitted_cost_is_paid_for() -> None:
    lanes = moving(depth_s=60)
    await lanes.seconds(100)
    assert lanes.pace.multiplier == pytest.approx(1.0)
    assert lanes.is_admitted(cost=5 * DONE_PER_S)
    assert lanes.pace.tokens_available == pytest.approx(-4 * DONE_PER_S)
    with pytest.raises(SlowedDown) as raised:
        lanes.pace.admit({Lane.NORMAL: 1})
    assert raised.value.retry_after_s == 5
    await lanes.seconds(5)
    assert lanes.is_admitted()


async def test_a_deep_lane_closes_no_other_and_all_or_none_of_a_request_is_admitted() -> None:
    lanes = moving(depth_s=1_000, lane=Lane.LOW)
    await lanes.seconds(100)
    assert not lanes.is_admitted(Lane.LOW)
    assert lanes.is_admitted(Lane.HIGH, 10**6)
    with pytest.raises(SlowedDown):
        lanes.pace.admit({Lane.HIGH: 1, Lane.LOW: 1})


async def test_while_postgres_is_away_the_rate_stays_and_no_place_is_known() -> None:
    lanes = moving(depth_s=240)
    await lanes.seconds(100)
    assert lanes.pace.place(Lane.NORMAL) is not None
    lanes.is_away, lanes.costs = True, {}
    await lanes.seconds(100)
    assert not lanes.is_admitted()
    assert (lanes.pace.place(Lane.NORMAL), lanes.pace.ahead_s(Lane.NORMAL, 1)) == (None, None)
    open_lanes = moving(depth_s=10)
    await open_lanes.seconds(100)
    open_lanes.is_away = True
    await open_lanes.seconds(100)
    assert open_lanes.is_admitted(cost=10**9)


async def test_a_gateway_that_starts_while_nothing_is_done_waits_for_a_window_before_it_limits() -> None:
    lanes = Lanes()
    lanes.costs = {Lane.NORMAL: 10**9}
    await lanes.seconds(30)
    assert lanes.is_admitted()
    await lanes.seconds(10)
    assert not lanes.is_admitted()


async def test_a_standstill_with_little_work_refuses_nothing() -> None:
    """Embedders that are away for a night, or one document that hangs."""
    lanes = moving(depth_s=10)
    await lanes.seconds(100)
    lanes.done_per_s = {}
    await lanes.seconds(1_000)
    assert lanes.is_admitted(cost=10**6)
    little = 0.3 * BALANCED.depth_max_s * BALANCED.rate_per_s * ITEM_COST
    lanes.costs = {Lane.NORMAL: int(little) + 1}
    await lanes.seconds(100)
    assert not lanes.is_admitted()


async def test_a_restart_of_the_embedders_refuses_for_less_than_a_minute() -> None:
    lanes = moving(depth_s=30)
    await lanes.seconds(100)
    refused = 0
    for second in range(120):
        lanes.done_per_s = {} if second < 20 else {Lane.NORMAL: DONE_PER_S}
        await lanes.seconds(1)
        refused += not lanes.is_admitted()
    assert refused < 60


async def test_work_that_ends_in_bursts_is_measured_over_a_window() -> None:
    lanes = moving(depth_s=30)
    for _ in range(20):
        lanes.done_per_s = {}
        await lanes.seconds(9)
        lanes.done_per_s = {Lane.NORMAL: 10 * DONE_PER_S}
        await lanes.seconds(1)
    assert lanes.pace.ahead_s(Lane.NORMAL, 30 * DONE_PER_S) == pytest.approx(30)
    assert lanes.pace.multiplier == 1.0


async def test_a_place_is_in_seconds_of_work_by_the_share_of_its_lane() -> None:
    lanes = Lanes()
    lanes.done_per_s = {Lane.HIGH: 800, Lane.LOW: 100}
    lanes.costs = {Lane.HIGH: 90_000, Lane.LOW: 9_000}
    assert lanes.pace.place(Lane.LOW) is None
    await lanes.seconds(10)
    place = lanes.pace.place(Lane.LOW)
    assert place is not None
    assert (place.ahead_count, place.ahead_cost, place.ahead_s) == (1, 9_000, 90.0), "a ninth of 900 a second"
    assert lanes.pace.ahead_s(Lane.LOW, 50_000) == pytest.approx(110), "all is done by then"
    assert lanes.pace.ahead_s(Lane.NORMAL, 1_200) == pytest.approx(1_200 / (900 * 3 / 12))


async def test_a_place_without_a_rate_has_no_seconds() -> None:
    lanes = Lanes()
    lanes.costs = {Lane.NORMAL: 100}
    await lanes.seconds(100)
    place = lanes.pace.place(Lane.NORMAL)
    assert place is not None
    assert (place.ahead_cost, bool(place.ahead_s)) == (100, False)


async def test_the_gauge_shows_the_lane_that_is_held_down_most() -> None:
    lanes = moving(depth_s=1_000, lane=Lane.LOW)
    await lanes.seconds(100)
    assert lanes.telemetry.registry.get_sample_value("tidegate_admission_multiplier", {"group": EMBED.name}) == (
        pytest.approx(0.2)
    )


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=200), st.floats(1, 60))
def test_a_rate_is_what_was_done_within_its_window(done: list[int], window_s: float) -> None:
    rate = DrainRate(window_s)
    total = 0
    for second, each in enumerate(done):
        total += each
        rate.add(total, float(second))
    per_s = rate.per_s
    assert per_s is None or min(done[1:]) <= per_s <= max(done[1:])
    if any(done[1:]) and len(done) - 1 <= window_s:
        assert per_s == pytest.approx(sum(done[1:]) / (len(done) - 1))


def test_what_is_run_again_by_hand_is_no_negative_rate() -> None:
    rate = DrainRate(2)
    for second, total in enumerate((100, 100, 50, 40)):
        rate.add(total, float(second))
    assert rate.per_s == 0
