import pytest

from gateway.client.bounds import JITTER, Bounds
from gateway.limits.limits import WINDOW_S

BOUNDS = Bounds(pause_first_s=0.1, pause_max_s=5.0)


@pytest.mark.parametrize(("attempt", "least_s"), [(0, 0.1), (1, 0.2), (3, 0.8), (6, 5.0), (10_000, 5.0)])
def test_pauses_double_up_to_their_bound(attempt: int, least_s: float) -> None:
    assert least_s <= BOUNDS.pause_s(attempt, 0.0) <= least_s * (1 + JITTER)


def test_a_pause_is_never_shorter_than_the_gateway_asked_for() -> None:
    assert 7.0 <= BOUNDS.pause_s(0, 7.0) <= 7.0 * (1 + JITTER)


def test_a_gateway_cannot_ask_for_more_than_a_bound() -> None:
    assert BOUNDS.pause_s(0, 1e300) <= BOUNDS.retry_after_max_s * (1 + JITTER)


def test_pauses_differ_so_that_clients_do_not_return_together() -> None:
    assert len({BOUNDS.pause_s(0, 1.0) for _ in range(10)}) > 1


def test_there_is_time_for_the_longest_wait_that_a_limit_asks_for_and_for_another() -> None:
    bounds = Bounds()
    longest_s = (WINDOW_S + 1) * (1 + JITTER)
    assert longest_s < bounds.retry_after_max_s
    assert 2 * longest_s < bounds.give_up_after_s <= bounds.close_max_s


def test_a_gateway_that_is_away_holds_a_program_up_for_seconds() -> None:
    bounds = Bounds()
    assert bounds.event_timeout_s + bounds.close_timeout_s <= 20
