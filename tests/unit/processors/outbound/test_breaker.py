"""When an endpoint is sent to, and when not."""

import pytest

from processors.outbound.breaker import Breaker
from schemas.pacing.breaker import BreakerState


class Watched:
    """A breaker, and what it told."""

    def __init__(self) -> None:
        self.told: list[tuple[BreakerState, str | None]] = []
        self.breaker = Breaker(changed=lambda state, reason: self.told.append((state, reason)))

    def fail(self, count: int, *, now_s: float = 0.0) -> None:
        for _ in range(count):
            self.breaker.failed(now_s, "HTTP 500", who="a", open_s=30.0)


def test_five_failures_in_a_row_open_it() -> None:
    watched = Watched()
    watched.fail(4)
    assert watched.breaker.admits(0.0, who="a")
    watched.fail(1)
    assert not watched.breaker.admits(0.0, who="a")
    assert watched.told == [(BreakerState.OPEN, "HTTP 500")]


def test_half_of_twenty_opens_it_though_never_five_in_a_row() -> None:
    watched = Watched()
    for _ in range(9):
        watched.fail(1)
        watched.breaker.succeeded(0.0)
    assert watched.breaker.is_closed
    watched.breaker.succeeded(0.0)
    assert watched.breaker.is_closed
    watched.fail(1)
    assert not watched.breaker.is_closed


def test_fewer_than_twenty_are_not_judged_by_their_share() -> None:
    watched = Watched()
    for _ in range(3):
        watched.fail(4)
        watched.breaker.succeeded(0.0)
    assert watched.breaker.is_closed


def test_after_its_time_one_attempt_is_admitted_and_decides() -> None:
    watched = Watched()
    watched.fail(5)
    assert not watched.breaker.admits(29.9, who="a")
    assert watched.breaker.admits(30.0, who="a")
    assert not watched.breaker.admits(30.0, who="a")
    watched.breaker.failed(31.0, "HTTP 503", who="a", open_s=30.0)
    assert not watched.breaker.admits(60.9, who="a")
    assert watched.breaker.admits(61.0, who="a")
    watched.breaker.succeeded(61.5)
    assert watched.breaker.admits(61.5, who="a")
    assert [state for state, _ in watched.told] == [
        BreakerState.OPEN,
        BreakerState.HALF_OPEN,
        BreakerState.OPEN,
        BreakerState.HALF_OPEN,
        BreakerState.CLOSED,
    ]


def test_an_attempt_that_came_to_no_end_leaves_room_for_another() -> None:
    watched = Watched()
    watched.fail(5)
    assert watched.breaker.admits(30.0, who="a")
    watched.breaker.abandoned(who="a")
    assert watched.breaker.admits(30.0, who="a")


def test_the_attempt_that_decides_goes_round_among_those_who_wait() -> None:
    watched = Watched()
    watched.fail(5)
    asked = []
    for now_s in range(1, 400):
        for who in ("a", "b", "c"):
            if watched.breaker.admits(float(now_s), who=who):
                asked.append(who)
                watched.breaker.failed(float(now_s), "HTTP 500", who=who, open_s=30.0)
    assert asked[:6] == ["a", "b", "c", "a", "b", "c"]


def test_who_waits_no_more_keeps_nobody_from_their_turn() -> None:
    watched = Watched()
    watched.fail(5)
    assert not watched.breaker.admits(1.0, who="gone")
    for now_s in (30.0, 60.0, 90.0):
        assert watched.breaker.admits(now_s, who="a")
        watched.breaker.failed(now_s, "HTTP 500", who="a", open_s=30.0)


def test_a_late_failure_from_before_does_not_count_as_the_probes() -> None:
    watched = Watched()
    watched.fail(5)
    watched.fail(3, now_s=29.0)
    assert watched.breaker.admits(30.0, who="a")


@pytest.mark.parametrize("before", [0, 5])
def test_a_disabled_endpoint_waits_for_a_person(before: int) -> None:
    watched = Watched()
    watched.fail(before)
    watched.breaker.disabled("HTTP 410")
    assert not watched.breaker.admits(1e9, who="a")
    watched.breaker.succeeded(1e9)
    assert not watched.breaker.admits(1e9, who="a")
    watched.breaker.enabled()
    assert watched.breaker.admits(1e9, who="a")
