"""Limits over a sliding 60 s: never more, a charge whole or not at all, and headers that tell what is left."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.limits import Bound, Kind, Limits, OverLimit, Quota, rate_limit, rate_limit_policy

RUN: Bound = (Kind.RUN, ("acme", "r1"), 10)
AGENT: Bound = (Kind.AGENT, ("acme", "a1"), 25)
TENANT: Bound = (Kind.TENANT, "acme", 40)
NOW_S = 1000.0


def run(name: str, limit: int = 10) -> Bound:
    return (Kind.RUN, ("acme", name), limit)


def refusal(limits: Limits, bounds: list[Bound], count: int, now_s: float) -> OverLimit:
    with pytest.raises(OverLimit) as refused:
        limits.charge(bounds, count, now_s)
    return refused.value


def left(limits: Limits, bound: Bound, now_s: float) -> int:
    """Return what one window still takes."""
    return limits.charge([bound], 0, now_s).remaining


def test_a_charge_tells_what_is_left_in_the_tightest_window() -> None:
    limits = Limits()
    quota = limits.charge([RUN, AGENT, TENANT], 3, NOW_S)
    assert (quota.kind, quota.limit, quota.remaining, quota.reset_s) == (Kind.RUN, 10, 7, 60)
    quota = limits.charge([run("r2", 100), AGENT, TENANT], 20, NOW_S + 10)
    assert (quota.kind, quota.limit, quota.remaining, quota.reset_s) == (Kind.AGENT, 25, 2, 51)


def test_a_batch_is_charged_or_refused_whole() -> None:
    """The last window refuses, and none before it is charged."""
    limits = Limits()
    limits.charge([TENANT], 35, NOW_S)
    refusal(limits, [RUN, AGENT, TENANT], 6, NOW_S)
    assert (left(limits, RUN, NOW_S), left(limits, AGENT, NOW_S), left(limits, TENANT, NOW_S)) == (10, 25, 5)
    assert limits.charge([RUN, AGENT, TENANT], 5, NOW_S).remaining == 0


def test_a_refusal_says_when_the_whole_count_fits() -> None:
    """8 need the second charge to leave as well; what was charged in second 1000 counts until 1061."""
    limits = Limits()
    limits.charge([RUN], 4, NOW_S + 0.9)
    limits.charge([RUN], 6, NOW_S + 20.5)
    refused = refusal(limits, [RUN], 8, NOW_S + 30.5)
    assert refused.retry_after_s == 51
    assert (refused.quota.remaining, refused.quota.reset_s) == (0, 31)
    refusal(limits, [RUN], 8, NOW_S + 80.9)
    assert limits.charge([RUN], 8, NOW_S + 81).remaining == 2


def test_a_refusal_is_by_the_window_that_takes_longest() -> None:
    limits = Limits()
    limits.charge([RUN], 10, NOW_S)
    limits.charge([AGENT], 25, NOW_S + 5)
    refused = refusal(limits, [RUN, AGENT, TENANT], 1, NOW_S + 5)
    assert (refused.quota.kind, refused.retry_after_s) == (Kind.AGENT, 61)


def test_a_count_over_the_limit_never_fits() -> None:
    refused = refusal(Limits(), [RUN, AGENT], 11, NOW_S)
    assert refused.retry_after_s is None
    assert "11 at once are more than the run may ever have" in str(refused)


def test_what_the_log_refused_is_given_back_to_its_second() -> None:
    limits = Limits()
    quota = limits.charge([RUN, AGENT], 6, NOW_S)
    limits.charge([RUN, AGENT], 4, NOW_S + 1)
    limits.give_back(quota, 5)
    assert (left(limits, RUN, NOW_S + 1), left(limits, AGENT, NOW_S + 1)) == (5, 20)
    assert left(limits, RUN, NOW_S + 61) == 6


def test_nothing_is_given_back_twice_or_once_it_has_left() -> None:
    limits = Limits()
    quota = limits.charge([RUN], 6, NOW_S)
    limits.give_back(quota, 6)
    limits.give_back(quota, 6)
    assert left(limits, RUN, NOW_S) == 10
    late = limits.charge([RUN], 6, NOW_S)
    limits.charge([RUN], 3, NOW_S + 61)
    limits.give_back(late, 6)
    assert left(limits, RUN, NOW_S + 61) == 7


def test_a_lowered_limit_holds_at_once() -> None:
    limits = Limits()
    limits.charge([run("r1", 10)], 9, NOW_S)
    refused = refusal(limits, [run("r1", 5)], 1, NOW_S)
    assert (refused.quota.remaining, refused.retry_after_s) == (0, 61)


def test_an_earlier_clock_counts_as_the_latest() -> None:
    limits = Limits()
    limits.charge([RUN], 4, NOW_S)
    limits.charge([RUN], 4, NOW_S - 500)
    assert refusal(limits, [RUN], 4, NOW_S - 500).retry_after_s == 61
    assert left(limits, RUN, NOW_S + 61) == 10


def test_idle_windows_are_dropped_as_new_ones_come() -> None:
    limits = Limits()
    for number in range(100):
        limits.charge([run(f"old{number}")], 1, NOW_S)
    for number in range(20):
        limits.charge([run(f"new{number}")], 1, NOW_S + 61)
    assert len(limits) == 20
    assert limits.forgotten_count == 0


def test_beyond_the_bound_the_window_asked_for_longest_ago_is_forgotten() -> None:
    """Nobody is refused because others are many; each kind has room of its own."""
    limits = Limits(windows_max=2)
    limits.charge([run("r1"), AGENT], 10, NOW_S)
    limits.charge([run("r2"), AGENT], 10, NOW_S)
    refusal(limits, [run("r1")], 1, NOW_S + 1)
    limits.charge([run("r3")], 10, NOW_S + 1)
    assert (len(limits), limits.forgotten_count) == (3, 1)
    refusal(limits, [run("r1")], 1, NOW_S + 1)
    assert left(limits, run("r2"), NOW_S + 1) == 10
    assert left(limits, AGENT, NOW_S + 1) == 5


def test_names_that_are_refused_push_out_nobody() -> None:
    limits = Limits(windows_max=2)
    limits.charge([run("r1"), (Kind.AGENT, "a", 10)], 10, NOW_S)
    for number in range(10):
        refusal(limits, [run(f"made-up{number}"), (Kind.AGENT, "a", 10)], 1, NOW_S)
    assert len(limits) == 2
    refusal(limits, [run("r1")], 1, NOW_S)


def test_a_give_back_to_a_forgotten_window_is_harmless() -> None:
    limits = Limits(windows_max=1)
    quota = limits.charge([run("r1")], 5, NOW_S)
    limits.charge([run("r2")], 5, NOW_S)
    limits.give_back(quota, 5)
    assert left(limits, run("r2"), NOW_S) == 5


def test_the_headers_name_the_tightest_window_and_all_policies() -> None:
    """As in draft-ietf-httpapi-ratelimit-headers-11: lists of strings with integer parameters."""
    quota = Limits().charge([(Kind.RUN, "r", 1000), (Kind.AGENT, "a", 10_000)], 1, NOW_S)
    assert rate_limit(quota) == '"run";r=999;t=60'
    assert rate_limit_policy(quota) == '"run";q=1000;w=60, "agent";q=10000;w=60'


def test_a_refusal_has_the_headers_too_and_is_to_be_retried_no_earlier_than_they_say() -> None:
    """The draft: Retry-After is not earlier than the end of the effective window."""
    limits = Limits()
    limits.charge([RUN], 10, NOW_S)
    refused = refusal(limits, [RUN], 1, NOW_S + 1.5)
    assert rate_limit(refused.quota) == '"run";r=0;t=60'
    assert refused.retry_after_s == 60


QUARTERS = st.integers(0, 40 * 4).map(lambda quarters: quarters / 4)
STEPS = st.lists(st.tuples(QUARTERS, st.integers(1, 12), st.integers(0, 12), st.sampled_from(["r1", "r2"])))


@given(STEPS)
def test_no_60_s_hold_more_than_a_limit_and_nothing_is_refused_that_61_s_would_hold(
    steps: list[tuple[float, int, int, str]],
) -> None:
    """Against every charge remembered one by one; some of each is given back. Times are quarters, which are exact."""
    limits, now_s = Limits(), NOW_S
    taken: list[tuple[float, str, int]] = []

    def within(window_s: float, name: str | None) -> int:
        since = [count for at_s, of, count in taken if at_s > now_s - window_s and name in (None, of)]
        return sum(since)

    for pause_s, count, returned, name in steps:
        now_s += pause_s
        bounds = [run(name, 10), (Kind.AGENT, "a", 15)]
        before = [(within(60, name), within(61, name), 10), (within(60, None), within(61, None), 15)]
        try:
            quota = limits.charge(bounds, count, now_s)
        except OverLimit as refused:
            assert any(longer + count > limit for _, longer, limit in before)
            check_promise(limits, bounds, count, now_s, refused)
            continue
        assert all(exact + count <= limit for exact, _, limit in before)
        assert min(limit - longer - count for _, longer, limit in before) <= quota.remaining
        assert quota.remaining <= min(limit - exact - count for exact, _, limit in before)
        assert 1 <= quota.reset_s <= 60
        limits.give_back(quota, min(returned, count))
        taken.append((now_s, name, count - min(returned, count)))


def check_promise(limits: Limits, bounds: list[Bound], count: int, now_s: float, refused: OverLimit) -> None:
    """Check that a copy of *limits* takes the count at the promised time, and not a second earlier."""
    if refused.retry_after_s is None:
        assert any(count > limit for _, _, limit in bounds)
        return
    assert refused.quota.reset_s <= refused.retry_after_s
    refusal(copy.deepcopy(limits), bounds, count, now_s + refused.retry_after_s - 1)
    assert isinstance(copy.deepcopy(limits).charge(bounds, count, now_s + refused.retry_after_s), Quota)


@given(STEPS, st.integers(1, 3))
def test_memory_has_its_bound(steps: list[tuple[float, int, int, str]], windows_max: int) -> None:
    limits, now_s = Limits(windows_max), NOW_S
    for number, (pause_s, _, _, _) in enumerate(steps):
        now_s += pause_s
        limits.charge([run(f"r{number}"), (Kind.ADDRESS, f"10.0.0.{number}", 5)], 1, now_s)
        assert len(limits) <= 2 * windows_max
