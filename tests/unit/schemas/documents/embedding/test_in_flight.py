"""The number of requests in flight, by simulation: it finds what a server takes, and stays about there."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.documents.embedding.in_flight import InFlightLimit


def test_it_grows_by_one_for_as_many_successes_as_it_is_high() -> None:
    limit = InFlightLimit(16)
    for expected in (5, 6, 7, 8):
        for _ in range(limit.limit):
            limit.begin()
        for _ in range(limit.limit + 1):
            limit.succeeded()
        while limit.has_room is False:
            limit.end()
        assert limit.limit == expected


def test_it_is_halved_once_for_a_round_trip() -> None:
    limit = InFlightLimit(16)
    for begun_at_s in (0.0, 0.1, 0.2, 0.3):
        limit.overloaded(begun_at_s=begun_at_s, now_s=1.0)
    assert limit.limit == 2
    limit.overloaded(begun_at_s=1.5, now_s=2.0)
    assert limit.limit == 1


def test_it_never_falls_below_one() -> None:
    limit = InFlightLimit(16)
    for second in range(10):
        limit.overloaded(begun_at_s=second + 0.5, now_s=second + 1.0)
    assert limit.has_room


def test_it_does_not_grow_while_it_is_not_made_use_of() -> None:
    limit = InFlightLimit(16)
    for _ in range(1000):
        limit.begin()
        limit.succeeded()
        limit.end()
    assert limit.limit == 4


@given(st.lists(st.booleans(), max_size=300), st.integers(1, 32))
def test_it_stays_within_its_bounds(results: list[bool], limit_max: int) -> None:
    limit = InFlightLimit(limit_max)
    for second, is_success in enumerate(results):
        if limit.has_room:
            limit.begin()
        if is_success:
            limit.succeeded()
        else:
            limit.overloaded(begun_at_s=float(second), now_s=second + 0.5)
        assert 1 <= limit.limit <= limit_max


def simulated(limit: InFlightLimit, capacity: int, *, rounds: int, start_s: float = 0.0) -> list[int]:
    """Return the limit after each round trip of a server that answers *capacity* requests and refuses the others."""
    limits = []
    for second in range(rounds):
        begun_at_s = start_s + second
        count = 0
        while limit.has_room:
            limit.begin()
            count += 1
        for place in range(count):
            if place < capacity:
                limit.succeeded()
            else:
                limit.overloaded(begun_at_s=begun_at_s + 0.5, now_s=begun_at_s + 1.0)
        for _ in range(count):
            limit.end()
        limits.append(limit.limit)
    return limits


def test_it_finds_what_a_server_takes() -> None:
    limit = InFlightLimit(64)
    limits = simulated(limit, 20, rounds=200)[50:]
    assert max(limits) <= 21
    assert min(limits) >= 10
    assert sum(limits) / len(limits) >= 14


def test_it_follows_a_server_that_takes_less_and_then_more() -> None:
    limit = InFlightLimit(64)
    simulated(limit, 40, rounds=100)
    assert max(simulated(limit, 4, rounds=50, start_s=100.0)[10:]) <= 5
    assert max(simulated(limit, 40, rounds=100, start_s=200.0)) >= 38
