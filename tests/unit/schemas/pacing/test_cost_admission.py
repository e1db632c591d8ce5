"""What waits takes a bounded time, the drain never idles, and the rate settles."""

from itertools import chain, count, repeat
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.pacing.cost_admission import REFUSAL_MAX_S, WAIT_MAX_S, CostAdmission
from schemas.pacing.law import GROWTH, LEAST
from schemas.pacing.presets import BALANCED, CONSERVATIVE, PRESETS, Preset
from tests.simulation.backlog import Client, Second, Simulation, simulated

DRAIN_PER_S = 1000.0
EVERY_PRESET = pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))


def stepped(preset: Preset, *depths_s: float | None, drain_per_s: float = 10.0) -> CostAdmission:
    """Return one step a second, from second 1 on, with depths in seconds of a known drain."""
    admission = CostAdmission(preset, item_cost=drain_per_s / preset.rate_per_s)
    for second, depth_s in enumerate(depths_s, start=1):
        admission.step(None if depth_s is None else depth_s * drain_per_s, drain_per_s, float(second))
    return admission


def saturated(preset: Preset = CONSERVATIVE, gateways: int = 1, known_gateways: int | None = None) -> Simulation:
    """Return a settled simulation of clients that ask for 20 times the drain."""
    asks_per_s = [20 * DRAIN_PER_S / gateways] * gateways
    simulation = simulated(preset, drain_per_s=DRAIN_PER_S, asks_per_s=asks_per_s, known_gateways=known_gateways)
    simulation.run(int(preset.depth_max_s) + 120)
    return simulation


def depths_s(seconds: list[Second], drain_per_s: float = DRAIN_PER_S) -> list[float]:
    return [each.backlog / drain_per_s for each in seconds]


def settled(simulation: Simulation, *, seconds: int = 60) -> list[Second]:
    """
    Go on until 30 s after the depth has come within 10 s of its target, and return what follows.

    Before that the rate is far from the drain on purpose.
    """
    target_s = simulation.clients[0].admission._preset.depth_max_s / 2
    for _ in range(1200):
        if abs(simulation.backlog / simulation.drain_per_s - target_s) < 10:
            break
        simulation.run(1)
    simulation.run(30)
    return list(simulation.run(seconds))


def assert_steady(seconds: list[Second], drain_per_s: float) -> None:
    """Assert that what is admitted stays within 10% of the drain, all of which is used."""
    for each in seconds:
        assert 0.9 * drain_per_s <= each.admitted <= 1.1 * drain_per_s
        assert 0.9 * drain_per_s <= sum(each.rates) <= 1.1 * drain_per_s
        assert each.drained == pytest.approx(drain_per_s)


@pytest.mark.parametrize("depths", [(), (0,), (8.9, 8.9), (None, None)])
def test_nothing_is_limited_below_three_tenths_of_the_bound(depths: tuple[float | None, ...]) -> None:
    admission = stepped(CONSERVATIVE, *depths)
    assert admission.rate_per_s is None
    assert admission.multiplier == 1.0
    assert admission.admit(1_000_000, 10.0) == 0.0


def test_from_three_tenths_on_the_rate_leads_to_half_the_bound() -> None:
    assert stepped(CONSERVATIVE, 9).rate_per_s == pytest.approx(16)
    assert stepped(CONSERVATIVE, 15).rate_per_s == pytest.approx(10)
    assert stepped(CONSERVATIVE, 20).rate_per_s == pytest.approx(5)
    assert stepped(CONSERVATIVE, 20).multiplier == pytest.approx(0.5)


def test_it_rises_by_a_fifth_a_second_and_falls_by_the_factor_of_the_preset() -> None:
    assert stepped(CONSERVATIVE, 20, 9).rate_per_s == pytest.approx(5 * GROWTH)
    assert stepped(CONSERVATIVE, 9, 25).rate_per_s == pytest.approx(16 * 0.3)
    assert stepped(BALANCED, 40, 100).rate_per_s == pytest.approx(20 * 0.5)
    assert stepped(BALANCED, 40, 100, 100, 100, 100, 100).rate_per_s == pytest.approx(10 * LEAST)


def test_an_unknown_backlog_holds_the_rate_and_the_depth() -> None:
    admission = stepped(CONSERVATIVE, 20, None, None)
    assert (admission.rate_per_s, admission.depth_s) == (pytest.approx(5), pytest.approx(20))


def test_at_the_bound_nothing_is_admitted_until_four_fifths_may_be_left() -> None:
    """Even where tokens are left; and no longer than half the bound, however far the depth is over it."""
    assert stepped(CONSERVATIVE, 15, 29.9).admit(1, 2.5) == 0.0
    assert stepped(CONSERVATIVE, 15, 30).admit(1, 2.5) == pytest.approx(6)
    assert stepped(CONSERVATIVE, 15, 34).wait_s(2.5) == pytest.approx(10)
    assert stepped(CONSERVATIVE, 15, 1000).admit(1, 2.5) == 15
    assert stepped(BALANCED, 15, 10_000).admit(1, 2.5) == REFUSAL_MAX_S


def test_a_standstill_refuses_and_the_end_of_it_admits_again() -> None:
    admission = stepped(CONSERVATIVE, 5)
    for second in range(2, 30):
        admission.step(60.0, 0.0, float(second))
    assert admission.admit(1, 29.0) == 15
    for second in range(30, 40):
        admission.step(60.0, 10.0, float(second))
    assert admission.admit(1, 40.0) == 0.0


def test_a_backlog_that_vanished_while_nothing_was_drained_leaves_a_way_back() -> None:
    admission = stepped(CONSERVATIVE, 5)
    for second in range(2, 4000):
        admission.step(60.0, 0.0, float(second))
    assert admission.admit(1, 3999.5) > 0
    waits_s = []
    for second in range(4000, 4005):  # somebody asks again and again, so the limit stays
        admission.step(0.0, 0.0, float(second))
        waits_s.append(admission.admit(1, second + 0.5))
    assert waits_s == [0.0] * 5


def test_an_idle_time_does_not_make_the_next_burst_look_deep() -> None:
    """Nothing was drained because nothing came; 6 seconds of work are not taken for more than 8."""
    admission = stepped(CONSERVATIVE, 15, 15, 15)
    for second in range(4, 300):
        admission.step(0.0, 0.0, float(second))
    admission.step(60.0, 0.0, 300.0)
    assert admission.depth_s is not None
    assert admission.depth_s <= 8
    assert admission.admit(1, 300.0) == 0.0


def test_work_older_than_the_bound_does_not_let_the_depth_grow() -> None:
    """Below three tenths of the bound it is no sign of too much work, and one forgotten item slows nobody down."""
    admission = stepped(CONSERVATIVE)
    admission.step(100.0, 10.0, 1.0, oldest_s=31.0)
    assert admission.rate_per_s == pytest.approx(10)
    admission.step(200.0, 10.0, 2.0, oldest_s=31.0)
    assert admission.rate_per_s == pytest.approx(5)
    forgotten = stepped(CONSERVATIVE)
    forgotten.step(80.0, 10.0, 1.0, oldest_s=3600.0)
    assert forgotten.rate_per_s is None


def test_a_large_item_is_admitted_and_paid_for() -> None:
    admission = stepped(CONSERVATIVE, 15)
    assert admission.admit(50, 2.0) == 0.0
    assert admission.tokens(2.0) == pytest.approx(-40)
    assert admission.admit(1, 2.0) == pytest.approx(4.1)
    assert admission.admit(500, 6.1) == 0.0
    assert admission.admit(1, 6.1) == WAIT_MAX_S


def test_the_limit_goes_once_those_who_waited_have_come_back() -> None:
    admission = stepped(CONSERVATIVE, 15)
    assert admission.admit(1, 1.0) > 0
    for second in range(2, 12):
        admission.step(10.0, 10.0, float(second))
        assert admission.rate_per_s is not None
    admission.step(10.0, 10.0, 12.0)
    assert admission.rate_per_s is None


@EVERY_PRESET
def test_a_step_of_twenty_times_the_drain_settles_without_oscillation(preset: Preset) -> None:
    simulation = simulated(preset, drain_per_s=DRAIN_PER_S, asks_per_s=[0.5 * DRAIN_PER_S])
    assert all(each.rates == [inf] for each in simulation.run(30))
    simulation.clients[0].asks_per_s = 20 * DRAIN_PER_S
    simulation.run(5)
    assert_steady(settled(simulation, seconds=300), DRAIN_PER_S)
    loaded = simulation.seconds[31:]
    assert min(each.drained for each in loaded) == pytest.approx(DRAIN_PER_S)
    # Two seconds pass, at twenty times the drain each, until the first look that sees them.
    assert max(depths_s(loaded)) <= max(40, 0.55 * preset.depth_max_s)


@EVERY_PRESET
def test_a_load_below_the_drain_is_never_limited(preset: Preset) -> None:
    simulation = simulated(preset, drain_per_s=DRAIN_PER_S, asks_per_s=[0.95 * DRAIN_PER_S])
    assert all(each.rates == [inf] for each in simulation.run(300))


@EVERY_PRESET
def test_half_the_drain_is_followed_without_oscillation(preset: Preset) -> None:
    simulation = saturated(preset)
    settled(simulation)
    simulation.drain_per_s = DRAIN_PER_S / 2
    halved = simulation.run(30)
    # The depth in seconds doubles with it, to the bound, and hardly further.
    assert max(depths_s(list(halved), DRAIN_PER_S / 2)) < 1.1 * preset.depth_max_s
    assert_steady(settled(simulation), DRAIN_PER_S / 2)


@EVERY_PRESET
def test_twice_the_drain_is_used_at_once_and_asked_for_within_10_s(preset: Preset) -> None:
    simulation = saturated(preset)
    settled(simulation)
    simulation.drain_per_s = 2 * DRAIN_PER_S
    doubled = simulation.run(300)
    assert min(each.drained for each in doubled) >= 0.9 * 2 * DRAIN_PER_S
    assert min(each.admitted for each in doubled[10:]) >= 0.9 * 2 * DRAIN_PER_S
    assert_steady(settled(simulation), 2 * DRAIN_PER_S)


@EVERY_PRESET
def test_ten_blind_seconds_hold_the_rate_though_the_drain_changes(preset: Preset) -> None:
    simulation = saturated(preset)
    before = settled(simulation)[-1]
    simulation.is_blind = True
    simulation.drain_per_s = 0.8 * DRAIN_PER_S
    assert all(each.rates == before.rates for each in simulation.run(10))
    simulation.is_blind = False
    assert_steady(settled(simulation), 0.8 * DRAIN_PER_S)


@EVERY_PRESET
def test_three_gateways_share_a_drain_that_each_knows_to_be_shared(preset: Preset) -> None:
    simulation = saturated(preset, gateways=3)
    seconds = settled(simulation)
    assert_steady(seconds, DRAIN_PER_S)
    assert depths_s(seconds)[-1] == pytest.approx(preset.depth_max_s / 2, rel=0.05)
    for each in seconds:
        assert max(each.rates) < 1.1 * min(each.rates)


@EVERY_PRESET
def test_three_gateways_that_do_not_know_of_each_other_settle_deeper_and_below_four_fifths(preset: Preset) -> None:
    simulation = saturated(preset, gateways=3, known_gateways=1)
    seconds = settled(simulation)
    assert_steady(seconds, DRAIN_PER_S)
    assert preset.depth_max_s / 2 < depths_s(seconds)[-1] < 0.8 * preset.depth_max_s


def test_one_busy_gateway_of_three_has_the_whole_drain() -> None:
    asks_per_s = [20 * DRAIN_PER_S, 0.0, 0.0]
    simulation = simulated(CONSERVATIVE, drain_per_s=DRAIN_PER_S, asks_per_s=asks_per_s)
    simulation.run(60)
    assert min(each.drained for each in simulation.run(300)) == pytest.approx(DRAIN_PER_S)
    assert max(depths_s(simulation.seconds[60:])) < CONSERVATIVE.depth_max_s


def test_groups_that_commit_every_3_s_move_the_rate_by_a_fifth_at_most() -> None:
    simulation = simulated(CONSERVATIVE, drain_per_s=DRAIN_PER_S, asks_per_s=[20 * DRAIN_PER_S], commits_every_s=3)
    simulation.run(120)
    for each in simulation.run(300):
        assert 0.8 * DRAIN_PER_S <= each.admitted <= 1.2 * DRAIN_PER_S
        assert each.drained == pytest.approx(DRAIN_PER_S)


def test_items_that_grow_to_a_thousand_times_their_size_stay_within_the_bound() -> None:
    """Records waiting would fall while the work in them grows; the cost shows it."""
    costs = chain((10.0 * 1000 ** (number / 1000) for number in range(1000)), repeat(10_000.0))
    simulation = simulated(CONSERVATIVE, drain_per_s=DRAIN_PER_S, asks_per_s=[0.0])
    simulation.clients = [Client(CostAdmission(CONSERVATIVE, item_cost=10.0), 20 * DRAIN_PER_S, costs)]
    simulation.run(60)
    seconds = list(simulation.run(2000))
    assert next(costs) == 10_000.0
    assert max(depths_s(seconds)) < CONSERVATIVE.depth_max_s
    assert min(each.drained for each in seconds) == pytest.approx(DRAIN_PER_S)


COSTS = st.one_of(st.none(), st.floats(0, 1e6))
STEPS = st.lists(st.tuples(COSTS, st.floats(-10, 1e6), st.floats(0, 3), st.floats(0, 1e4)), max_size=60)


@given(STEPS, st.sampled_from(list(PRESETS.values())), st.integers(1, 5))
def test_whatever_came_before_an_empty_backlog_limits_nobody_in_the_end(
    steps: list[tuple[float | None, float, float, float]], preset: Preset, gateways: int
) -> None:
    admission, now_s = CostAdmission(preset, gateways=gateways), 0.0
    for backlog_cost, drained_per_s, pause_s, cost in steps:
        now_s += pause_s
        assert 0 <= admission.admit(cost, now_s) <= REFUSAL_MAX_S
        admission.step(backlog_cost, drained_per_s, now_s)
        assert LEAST <= admission.multiplier <= 2.0
    times_s = count(now_s + 1)
    for _ in range(12):
        admission.step(0.0, 0.0, next(times_s))
    assert admission.rate_per_s is None
    assert admission.admit(1, next(times_s)) == 0.0
