"""Tokens come at the rate, up to a burst, and a batch that is larger is paid off."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.pacing.bucket import BURST_S, ROOM, TokenBucket


def test_without_a_limit_nobody_waits() -> None:
    bucket = TokenBucket()
    bucket.take(1_000_000)
    assert bucket.wait_s(0.0) == 0.0


def test_a_pause_saves_up_one_burst() -> None:
    bucket = TokenBucket(20.0)
    assert bucket.tokens(0.5) == 10.0
    assert bucket.tokens(60.0) == 20.0 * BURST_S


def test_a_batch_needs_room_for_one_and_is_paid_off() -> None:
    bucket = TokenBucket(10.0)
    assert bucket.wait_s(0.0) == pytest.approx(0.1)
    assert bucket.wait_s(0.1) == 0.0
    bucket.take(101)
    assert bucket.tokens(0.1) == pytest.approx(-100)
    assert bucket.wait_s(0.1) == pytest.approx(10.1)
    bucket.give_back(101)
    assert bucket.wait_s(0.1) == 0.0


def test_a_rate_below_one_a_second_still_lets_one_pass() -> None:
    bucket = TokenBucket(0.1)
    assert bucket.wait_s(0.0) == pytest.approx(10.0)
    assert bucket.wait_s(10.0) == 0.0


def test_a_rate_of_nothing_never_has_room() -> None:
    assert TokenBucket(0.0).wait_s(1e9) == inf


def test_the_time_until_a_change_was_at_the_old_rate() -> None:
    bucket = TokenBucket(10.0)
    bucket.set_rate(100.0, 0.5)
    assert bucket.tokens(0.5) == 5.0
    assert bucket.tokens(0.6) == pytest.approx(15.0)


def test_a_limit_starts_with_nothing_whatever_passed_before_it() -> None:
    bucket = TokenBucket()
    bucket.take(1_000)
    bucket.set_rate(10.0, 7.0)
    assert bucket.tokens(7.0) == 0.0


@given(
    st.floats(0.1, 1e4),
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1e4)), max_size=50),
)
def test_no_more_passes_than_the_rate_a_burst_and_a_batch(rate_per_s: float, asks: list[tuple[float, float]]) -> None:
    bucket, now_s, passed = TokenBucket(rate_per_s), 0.0, 0.0
    for pause_s, count in asks:
        now_s += pause_s
        if bucket.wait_s(now_s) == 0:
            bucket.take(count)
            passed += count
        assert passed <= rate_per_s * now_s + max(ROOM, BURST_S * rate_per_s) + 1e4
