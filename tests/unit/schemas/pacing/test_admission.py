"""The admitted rate follows what waits: it never dies, never blocks without a reason, and settles."""

import copy
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.pacing.admission import FLOOR_PER_S, GROWTH, LEAST, WAIT_MAX_S, Admission

LAG_MAX = 1000
DEEP, MIDDLE, SHALLOW = 801, 500, 299
PERSISTED_PER_S = 400.0


def stepped(*depths: int | None, persisted_per_s: float = PERSISTED_PER_S) -> Admission:
    """Return one step a second, from second 1 on."""
    admission = Admission(LAG_MAX)
    for second, depth in enumerate(depths, start=1):
        admission.step(depth, persisted_per_s, float(second))
    return admission


def rate(admission: Admission) -> float:
    return math.inf if admission.rate_per_s is None else admission.rate_per_s


@pytest.mark.parametrize("depths", [(), (0,), (DEEP - 1,), (None,), (None, None, MIDDLE)])
def test_nothing_is_limited_before_it_is_deep(depths: tuple[int | None, ...]) -> None:
    admission = stepped(*depths)
    assert admission.rate_per_s is None
    assert admission.multiplier == 1.0
    assert admission.admit(1_000_000, 10.0) == 0.0


def test_the_rate_is_halved_each_second_down_to_a_fifth_of_what_is_persisted() -> None:
    assert [stepped(*[DEEP] * steps).rate_per_s for steps in (1, 2, 3, 4)] == [200, 100, 80, 80]
    assert [stepped(*[DEEP] * steps).multiplier for steps in (1, 2, 3, 4)] == [0.5, 0.25, LEAST, LEAST]


def test_between_it_holds() -> None:
    assert stepped(DEEP, MIDDLE, MIDDLE, 800, 300).rate_per_s == 200


def test_below_it_grows_until_nobody_waits() -> None:
    """Four steps from a half to what is persisted; more, as long as more is asked for."""
    assert stepped(DEEP, SHALLOW, SHALLOW, SHALLOW).rate_per_s == pytest.approx(200 * GROWTH**3)
    assert stepped(DEEP, SHALLOW, SHALLOW, SHALLOW, SHALLOW).rate_per_s is None
    admission = stepped(DEEP)
    for second in range(2, 12):
        admission.admit(2000, second - 0.5)
        admission.step(SHALLOW, PERSISTED_PER_S, float(second))
    assert admission.rate_per_s == pytest.approx(200 * GROWTH**10)
    assert admission.multiplier == 1.0
    for second in range(12, 16):
        admission.admit(2000, second - 0.5)
        admission.step(SHALLOW, PERSISTED_PER_S, float(second))
    assert admission.rate_per_s is None


def test_an_unknown_depth_holds_the_rate() -> None:
    assert stepped(DEEP, None, None).rate_per_s == 200


def test_a_standstill_leaves_the_floor_and_recovers() -> None:
    """Also one that lasted from the start, when nothing was ever seen to be persisted."""
    admission = stepped(*[DEEP] * 60, persisted_per_s=0)
    assert (admission.rate_per_s, admission.multiplier) == (FLOOR_PER_S, LEAST)
    for second in range(61, 70):
        admission.step(DEEP, PERSISTED_PER_S, float(second))
    assert rate(admission) > 0.15 * PERSISTED_PER_S
    for second in range(70, 90):
        admission.step(SHALLOW, PERSISTED_PER_S, float(second))
    assert admission.rate_per_s is None


def test_a_second_without_a_commit_is_no_standstill_and_one_with_three_no_surge() -> None:
    admission, rates = Admission(LAG_MAX), []
    for second in range(1, 31):
        admission.step(DEEP, 3 * PERSISTED_PER_S if second % 3 == 0 else 0.0, float(second))
        rates.append(rate(admission) / PERSISTED_PER_S)
    assert min(rates[10:]) > 0.6 * LEAST
    assert max(rates[10:]) < 1.5 * LEAST


def test_steps_need_not_come_on_time() -> None:
    """Two in half the time come to one, one that is late to more, and one at once after another to nothing."""
    admission = stepped(MIDDLE)
    for now_s in (1.5, 2.0, 2.0, 2.1):
        admission.step(DEEP, PERSISTED_PER_S, now_s)
    assert admission.rate_per_s == pytest.approx(200)
    late = stepped(DEEP)
    late.step(MIDDLE, PERSISTED_PER_S, 100.0)
    late.step(SHALLOW, PERSISTED_PER_S, 101.5)
    assert late.rate_per_s == pytest.approx(200 * GROWTH**1.5)


def test_who_has_to_wait_is_told_how_long() -> None:
    """200 a second: after a second there is room for 200 at once, and not for more after a minute."""
    admission = stepped(DEEP)
    assert admission.admit(1, 1.0) == pytest.approx(1 / 200)
    assert admission.admit(200, 61.0) == 0.0
    assert admission.admit(1, 61.0) == pytest.approx(1 / 200)
    assert admission.admit(1, 61.01) == 0.0


def test_whoever_asks_how_long_to_wait_takes_nothing() -> None:
    admission = stepped(DEEP)
    assert [admission.wait_s(1000, 1.006) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert admission.admit(1, 1.006) == 0.0
    assert admission.wait_s(1, 1.006) == admission.admit(1, 1.006) == pytest.approx(0.8 / 200)


def test_a_batch_larger_than_the_burst_is_admitted_and_paid_for() -> None:
    admission = stepped(DEEP)
    assert admission.admit(1000, 2.0) == 0.0
    assert admission.admit(1, 2.0) == pytest.approx(801 / 200)
    assert admission.admit(10_000, 7.0) == 0.0
    assert admission.admit(1, 7.0) == WAIT_MAX_S


DEPTHS = st.one_of(st.none(), st.integers(0, 2 * LAG_MAX))
STEPS = st.lists(st.tuples(DEPTHS, st.floats(-10, 1e6), st.floats(0, 3), st.integers(0, 10_000)), max_size=60)


def driven(steps: list[tuple[int | None, float, float, int]], check: Callable[[Admission], None]) -> Admission:
    admission, now_s = Admission(LAG_MAX), 0.0
    for depth, persisted_per_s, pause_s, count in steps:
        now_s += pause_s
        assert 0 <= admission.admit(count, now_s) <= WAIT_MAX_S
        admission.step(depth, persisted_per_s, now_s)
        check(admission)
    return admission


@given(STEPS)
def test_the_rate_is_never_below_its_floor(steps: list[tuple[int | None, float, float, int]]) -> None:
    def check(admission: Admission) -> None:
        assert rate(admission) >= FLOOR_PER_S
        assert LEAST <= admission.multiplier <= 1.0

    driven(steps, check)


@given(STEPS, st.floats(0, 1e6), st.integers(0, 1_000_000))
def test_whatever_came_before_a_shallow_group_limits_nobody_in_the_end(
    steps: list[tuple[int | None, float, float, int]], persisted_per_s: float, asked: int
) -> None:
    """A hundred seconds suffice from the floor to a million events a second."""
    admission = driven(steps, lambda _: None)
    for second in range(100):
        admission.admit(asked, 200.0 + second)
        admission.step(SHALLOW, persisted_per_s, 200.0 + second)
    assert admission.rate_per_s is None


@given(STEPS, st.integers(0, 2 * LAG_MAX), st.integers(0, 2 * LAG_MAX), st.floats(0, 1e6))
def test_a_deeper_group_is_never_answered_with_a_higher_rate(
    steps: list[tuple[int | None, float, float, int]], one: int, other: int, persisted_per_s: float
) -> None:
    shallower = driven(steps, lambda _: None)
    deeper = copy.deepcopy(shallower)
    shallower.step(min(one, other), persisted_per_s, 300.0)
    deeper.step(max(one, other), persisted_per_s, 300.0)
    assert rate(shallower) >= rate(deeper)


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 1000))))
def test_no_more_is_admitted_than_the_rate_a_burst_and_a_batch(asks: list[tuple[float, int]]) -> None:
    admission, now_s, admitted = stepped(DEEP), 1.0, 0
    for pause_s, count in asks:
        now_s += pause_s
        admitted += count if admission.admit(count, now_s) == 0.0 else 0
        assert admitted <= 200 * (now_s - 1.0 + 1.0) + 1000 + 1e-6


class Loop:
    """A closed loop: what is admitted waits, persistence takes its part each second, and the lag is seen late."""

    def __init__(self, *, persists_per_s: int, asks_per_s: int, lag_max: int) -> None:
        self.admission = Admission(lag_max)
        self.persists_per_s = persists_per_s
        self.asks_per_s = asks_per_s
        self.lag = 0
        self.lags: list[int] = []
        self.rates: list[float] = []
        self.persisted: list[int] = []
        self._seconds = 0
        self._uncommitted = 0

    def run(self, seconds: int, *, commits_every_s: int = 1) -> None:
        """Ask ten times a second; commit, and with it become visible, every *commits_every_s*."""
        for _ in range(seconds):
            seen = self.lag + self._uncommitted
            for part in range(10):
                if self.admission.admit(self.asks_per_s // 10, self._seconds + part / 10) == 0.0:
                    self.lag += self.asks_per_s // 10
            done = min(self.lag, self.persists_per_s)
            self.lag -= done
            self._uncommitted += done
            self._seconds += 1
            committed = 0
            if self._seconds % commits_every_s == 0:
                committed, self._uncommitted = self._uncommitted, 0
            self.admission.step(seen, committed, float(self._seconds))
            self.lags.append(self.lag)
            self.rates.append(rate(self.admission))
            self.persisted.append(done)


@pytest.mark.parametrize("commits_every_s", [1, 3])
@pytest.mark.parametrize("persists_per_s", [500, 5_000])
def test_under_twenty_times_the_load_the_lag_settles_and_persistence_never_starves(
    persists_per_s: int, commits_every_s: int
) -> None:
    lag_max = 1_000_000 if persists_per_s == 5_000 else 100_000
    loop = Loop(persists_per_s=persists_per_s, asks_per_s=20 * persists_per_s, lag_max=lag_max)
    loop.run(2000, commits_every_s=commits_every_s)
    assert max(loop.lags) < lag_max
    settled = slice(1000, None)
    assert 0.1 * lag_max < min(loop.lags[settled])
    assert max(loop.lags[settled]) < 0.9 * lag_max
    assert min(loop.rates[settled]) >= 0.15 * persists_per_s
    assert max(loop.rates[settled]) < 10 * persists_per_s
    assert sum(loop.persisted[settled]) == 1000 * persists_per_s


def test_after_a_standstill_the_backlog_is_worked_off_and_the_limit_goes() -> None:
    """Ten minutes without persistence cost no more than lag_max; an ordinary load is then admitted whole."""
    loop = Loop(persists_per_s=5_000, asks_per_s=3_000, lag_max=1_000_000)
    loop.run(60)
    assert loop.rates[-1] == math.inf
    loop.persists_per_s = 0
    loop.run(600)
    assert loop.rates[-1] == FLOOR_PER_S
    assert max(loop.lags) < 1_000_000
    loop.persists_per_s = 5_000
    loop.run(600)
    assert loop.rates[-1] == math.inf
    assert loop.lag < 300_000
