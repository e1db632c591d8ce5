"""
The law by which a rate follows the depth of a backlog: depths in seconds of work, rates in any unit of cost.

The rate is the drained rate, and a part more or less that leads the depth to its target within about
`CORRECTION_S`. The depth then approaches the target without passing it, because the correction fades with the
distance. Two bounds keep what is measured badly from being followed at once: the rate rises by `GROWTH` a second at
most, and falls by the preset's factor.
"""

from schemas.pacing.presets import Preset

DEEP = 0.8  # of the bound: above it the rate falls as fast as the preset has it
SHALLOW = 0.3  # of the bound: below it whoever asks for less than the rate need not wait
TARGET = 0.5  # of the bound: as far from refusing everything as from a drain that runs dry
CORRECTION_S = 10.0
LEAST, MOST = 0.2, 2.0  # of what is drained
GROWTH = 1.2  # a second


def multiplier(depth_s: float, preset: Preset) -> float:
    """Return the part of the drained rate that leads *depth_s* to its target."""
    if depth_s > DEEP * preset.depth_max_s:
        return LEAST
    if depth_s < SHALLOW * preset.depth_max_s:
        return MOST
    return bounded(1 + (TARGET * preset.depth_max_s - depth_s) / CORRECTION_S)


def bounded(part: float) -> float:
    """Return *part* within what a rate may be of what is drained."""
    return min(MOST, max(LEAST, part))


def next_rate_per_s(rate_per_s: float, goal_per_s: float, elapsed_s: float, preset: Preset) -> float:
    """Return *goal_per_s*, or what *rate_per_s* may become within *elapsed_s* on the way to it."""
    lowest_per_s: float = rate_per_s * preset.falling**elapsed_s
    highest_per_s: float = rate_per_s * GROWTH**elapsed_s
    return min(max(goal_per_s, lowest_per_s), highest_per_s)
