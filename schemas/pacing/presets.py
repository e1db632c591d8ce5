"""The presets by which a backlog is kept short: how long it may be, and how fast the rate falls when it is not."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """The figures of a control law; see `schemas.pacing.law`."""

    rate_per_s: float  # items: the drain that is assumed until one is measured
    falling: float  # the part of the rate that is left after each second above four fifths of the bound
    depth_max_s: float  # seconds of work that may wait; at so many nothing is admitted

    def __post_init__(self) -> None:
        """Raise ValueError where the rate could not rise or fall."""
        if not (self.rate_per_s > 0 and 0 < self.falling < 1 and self.depth_max_s > 0):
            raise ValueError(f"rate and depth must be above 0, and falling between 0 and 1: {self}")


# The bounds are what somebody waits for, at most, when everything is busy: half a minute is what a person who watches
# a page bears; two minutes hide a restart or a rebalance of the consumers, in which nothing is drained, without leaving
# them idle after it; ten minutes are for backfills, where the drain must never run dry and nobody watches.
CONSERVATIVE = Preset(rate_per_s=10.0, falling=0.3, depth_max_s=30.0)
BALANCED = Preset(rate_per_s=50.0, falling=0.5, depth_max_s=120.0)
AGGRESSIVE = Preset(rate_per_s=200.0, falling=0.6, depth_max_s=600.0)


class PresetName(StrEnum):
    """The name of a preset, as settings have it."""

    CONSERVATIVE = "conservative"
    BALANCED = "balanced"
    AGGRESSIVE = "aggressive"


PRESETS: Mapping[PresetName, Preset] = {
    PresetName.CONSERVATIVE: CONSERVATIVE,
    PresetName.BALANCED: BALANCED,
    PresetName.AGGRESSIVE: AGGRESSIVE,
}
