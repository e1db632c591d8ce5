"""
Rates that decide how much is admitted: what is drained, averaged, and what is asked for; and the steps they change in.

Pure: time is given, in seconds of a monotonic clock.
"""

# Groups commit in bursts: a rate is averaged over about so long, or a second between two commits would pass for a
# standstill.
AVERAGED_OVER_S = 5.0
FADING = 0.5  # a second: clients that were told to wait are quiet for a while, and will be back
ELAPSED_MIN_S = 0.5  # a step that comes sooner is ignored
ELAPSED_MAX_S = 2.0  # whoever was held up has not watched the whole pause


def step_s(stepped_at_s: float | None, now_s: float) -> float | None:
    """Return the seconds that a step stands for, 0.5 to 2, after one at *stepped_at_s*; None: too soon for a step."""
    elapsed_s = 1.0 if stepped_at_s is None else now_s - stepped_at_s
    return None if elapsed_s < ELAPSED_MIN_S else min(elapsed_s, ELAPSED_MAX_S)


class AverageRate:
    """A rate, averaged with exponentially fading weights."""

    def __init__(self, per_s: float | None = None) -> None:
        """Start at *per_s*; None: the first rate that is measured."""
        self.per_s = per_s  # None: never measured

    def add(self, per_s: float, elapsed_s: float) -> None:
        """Add the rate that was measured over *elapsed_s*; below 0 counts as 0."""
        measured_per_s = max(0.0, per_s)
        before_per_s = measured_per_s if self.per_s is None else self.per_s
        self.per_s = before_per_s + min(1.0, elapsed_s / AVERAGED_OVER_S) * (measured_per_s - before_per_s)


class Demand:
    """The most that was asked for recently, admitted or not."""

    def __init__(self) -> None:
        """Start with nothing asked for."""
        self.per_s = 0.0
        self._asked = 0.0  # since the last step

    def ask(self, count: float) -> None:
        """Count what is asked for."""
        self._asked += count

    def step(self, elapsed_s: float) -> None:
        """End the *elapsed_s* since the last step."""
        self.per_s = max(self._asked / elapsed_s, self.per_s * FADING**elapsed_s)
        self._asked = 0.0
