"""The rate leads the depth to its target, within its bounds and no faster than allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.pacing.law import GROWTH, LEAST, MOST, multiplier, next_rate_per_s
from schemas.pacing.presets import AGGRESSIVE, BALANCED, CONSERVATIVE, PRESETS, Preset

ANY_PRESET = st.sampled_from(list(PRESETS.values()))


def test_the_presets_are_the_ones_that_users_know() -> None:
    known = [(each.rate_per_s, each.falling) for each in (CONSERVATIVE, BALANCED, AGGRESSIVE)]
    assert known == [(10, 0.3), (50, 0.5), (200, 0.6)]


@pytest.mark.parametrize("figures", [(0, 0.5, 30), (10, 0, 30), (10, 1, 30), (10, 0.5, 0), (float("nan"), 0.5, 30)])
def test_a_preset_that_could_not_move_is_refused(figures: tuple[float, float, float]) -> None:
    rate_per_s, falling, depth_max_s = figures
    with pytest.raises(ValueError, match="above 0"):
        Preset(rate_per_s=rate_per_s, falling=falling, depth_max_s=depth_max_s)


@pytest.mark.parametrize(
    ("depth_s", "part"), [(0, MOST), (9, 1.6), (15, 1.0), (20, 0.5), (23, LEAST), (24.1, LEAST), (300, LEAST)]
)
def test_the_further_from_half_the_bound_the_larger_the_correction(depth_s: float, part: float) -> None:
    assert multiplier(depth_s, CONSERVATIVE) == pytest.approx(part)


def test_above_four_fifths_a_short_bound_has_the_least_rate_too() -> None:
    assert multiplier(8.1, Preset(rate_per_s=1, falling=0.5, depth_max_s=10)) == LEAST


@given(ANY_PRESET, st.floats(0, 1e4), st.floats(0, 1e4))
def test_a_deeper_backlog_never_has_a_higher_rate(preset: Preset, one_s: float, other_s: float) -> None:
    assert multiplier(min(one_s, other_s), preset) >= multiplier(max(one_s, other_s), preset)


@given(ANY_PRESET, st.floats(0.01, 1e6), st.floats(0, 1e6), st.floats(0.5, 2))
def test_a_rate_rises_and_falls_no_faster_than_allowed(
    preset: Preset, rate_per_s: float, goal_per_s: float, elapsed_s: float
) -> None:
    after_per_s = next_rate_per_s(rate_per_s, goal_per_s, elapsed_s, preset)
    lowest_per_s, highest_per_s = rate_per_s * preset.falling**elapsed_s, rate_per_s * GROWTH**elapsed_s
    assert after_per_s == min(max(goal_per_s, lowest_per_s), highest_per_s)
    assert min(rate_per_s, goal_per_s) <= after_per_s <= max(rate_per_s, goal_per_s)
