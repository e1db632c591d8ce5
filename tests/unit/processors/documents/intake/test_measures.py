"""The rate at which documents are stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.documents.intake.measures import RATE_OVER_S, StoredRate


def test_a_single_total_is_no_rate() -> None:
    assert StoredRate(every_s=5.0).after(1_000_000.0) == 0.0


def test_a_steady_rate_is_found_in_about_a_minute() -> None:
    rate, found = StoredRate(every_s=5.0), 0.0
    for look in range(int(RATE_OVER_S / 5.0) + 1):
        found = rate.after(look * 5.0 * 1000.0)
    assert 600.0 < found < 1000.0
    for look in range(13, 100):
        found = rate.after(look * 5.0 * 1000.0)
    assert found == pytest.approx(1000.0, rel=0.01)


def test_a_pause_lets_the_rate_fall_step_by_step() -> None:
    rate = StoredRate(every_s=5.0)
    for look in range(200):
        rate.after(look * 5.0 * 1000.0)
    first, second = rate.after(199 * 5000.0), rate.after(199 * 5000.0)
    assert first == pytest.approx(1000.0 * 11 / 12, rel=0.01)
    assert second == pytest.approx(1000.0 * (11 / 12) ** 2, rel=0.01)


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=50), st.floats(0.1, 1000.0))
def test_the_average_is_never_outside_what_was_seen(stored: list[int], every_s: float) -> None:
    rate, total = StoredRate(every_s=every_s), 0.0
    rate.after(total)
    for each in stored:
        total += each
        assert -1e-6 <= rate.after(total) <= max(stored) / every_s * (1 + 1e-9)
