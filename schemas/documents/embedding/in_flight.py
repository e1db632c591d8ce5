"""
The number of requests that a remote embedder gets at a time: additive increase, multiplicative decrease. Pure.

The limit grows by one for as many successes as it is high, and is halved when the receiver is overloaded, at most once
for the requests of one round trip: those that were already under way at the last cut say nothing about the new limit.
"""

LIMIT_FIRST = 4.0
LIMIT_MIN = 1.0
DECREASE = 0.5


class InFlightLimit:
    """The limit and the number of requests under way; times are seconds of a monotonic clock."""

    def __init__(self, limit_max: int) -> None:
        """Start at four requests, or at *limit_max* if that is lower."""
        self._limit_max = float(max(1, limit_max))
        self._limit = min(LIMIT_FIRST, self._limit_max)
        self._in_flight_count = 0
        self._cut_at_s = float("-inf")

    @property
    def limit(self) -> int:
        """Return how many requests may be under way."""
        return int(self._limit)

    @property
    def has_room(self) -> bool:
        """True if one more request may begin."""
        return self._in_flight_count < self.limit

    def begin(self) -> None:
        """Count a request that begins; ask `has_room` first."""
        self._in_flight_count += 1

    def end(self) -> None:
        """Count a request as ended, whatever became of it; tell its result first."""
        self._in_flight_count -= 1

    def succeeded(self) -> None:
        """Grow by a part of one, unless the limit is not made use of: its successes then prove nothing."""
        if self._in_flight_count >= self._limit / 2:
            self._limit = min(self._limit_max, self._limit + 1 / self._limit)

    def overloaded(self, *, begun_at_s: float, now_s: float) -> None:
        """Halve the limit for a request that was refused or late, if it had begun after the last cut."""
        if begun_at_s > self._cut_at_s:
            self._limit = max(LIMIT_MIN, self._limit * DECREASE)
            self._cut_at_s = now_s
