"""
The rate at which events are admitted while earlier ones wait to be handled.

The depth is the number of waiting records: a consumer group's lag, or any other backlog. While it is deep, the
admitted rate is halved each second, from the handled rate down to a part of it, so that the depth falls. While it is
shallow, the rate grows until nobody has to wait. Between, the rate stays. It grows past the handled rate on purpose:
the depth then climbs slowly to where the rate is halved again, and waiting clients do not all come back at once. No
controller can prevent one thing: until the first step after the depth became deep, everything is admitted; the rest of
lag_max must hold that.

Pure: time is given, in seconds of a monotonic clock. One `Admission` belongs to one thread. It knows of one gateway:
with N replicas give each its share of what is handled, else they admit N times as much.
"""

from schemas.pacing.bucket import TokenBucket
from schemas.pacing.rates import AverageRate, Demand, step_s

LAG_MAX = 1_000_000  # records
DEEP = 0.8  # of lag_max: above it the rate is halved
SHALLOW = 0.3  # of lag_max: below it the rate grows
LEAST = 0.2  # of what is persisted: the depth falls at that, and yet every client gets on
HALVING = 0.5  # a second
GROWTH = 1.2  # a second
# Admitted though nothing is persisted: 0.2 of nothing is nothing, and no growth leads away from it. A few agents can
# still end their runs, and the last fifth of a million records takes five hours to fill.
FLOOR_PER_S = 10.0
WAIT_MAX_S = 10.0  # the rate is decided again each second: a longer forecast would be wrong


class Admission:
    """The admitted rate, and who has to wait for it."""

    def __init__(self, lag_max: int = LAG_MAX) -> None:
        """Start without a limit; *lag_max* is in records."""
        self._lag_max = lag_max
        self._bucket = TokenBucket()  # a token is an event
        self._persisted = AverageRate()
        self._demand = Demand()
        self._stepped_at_s: float | None = None

    @property
    def rate_per_s(self) -> float | None:
        """Return the admitted rate in events a second; None: no limit."""
        return self._bucket.rate_per_s

    @property
    def multiplier(self) -> float:
        """Return the rate as a part of what is persisted, 0.2 to 1.0: 1.0 without a limit, or with one above that."""
        rate_per_s, persisted_per_s = self.rate_per_s, self._persisted.per_s
        if rate_per_s is None:
            return 1.0
        if rate_per_s <= self._least_per_s():
            return LEAST
        return min(1.0, rate_per_s / persisted_per_s) if persisted_per_s else 1.0

    def step(self, depth: int | None, persisted_per_s: float, now_s: float) -> None:
        """
        Decide the rate; called about once a second, each time after a new look at the group.

        *depth* is in records. None: not known; the rate stays as it is, because not knowing is no reason to block.
        *persisted_per_s* is measured since the last step, and of no account where the depth is not known.
        """
        if (elapsed_s := step_s(self._stepped_at_s, now_s)) is None:
            return
        self._stepped_at_s = now_s
        self._demand.step(elapsed_s)
        if depth is not None:
            self._persisted.add(persisted_per_s, elapsed_s)
            self._bucket.set_rate(self._next_rate_per_s(depth, elapsed_s), now_s)

    def admit(self, count: int, now_s: float) -> float:
        """
        Admit *count* events, all or none: 0.0, or the seconds after which to ask again.

        A batch is admitted once there is room for one event, and paid for afterwards: it would otherwise starve
        behind single events. So in T seconds at most the rate x (T + 1) and one batch are admitted.
        """
        wait_s = self.wait_s(count, now_s)
        if wait_s == 0:
            self._demand.ask(count)
            self._bucket.take(count)
        return wait_s

    def wait_s(self, count: int, now_s: float) -> float:
        """
        Return the same as `admit`, but admit nothing: on 0.0 the caller must ask `admit` once more.
        """
        wait_s = min(WAIT_MAX_S, self._bucket.wait_s(now_s))
        if wait_s > 0:
            self._demand.ask(count)
        return wait_s

    def _next_rate_per_s(self, depth: int, elapsed_s: float) -> float | None:
        rate_per_s, persisted_per_s = self.rate_per_s, self._persisted.per_s or 0.0
        if rate_per_s is None:
            if depth <= DEEP * self._lag_max:
                return None
            # From what is persisted, not from what was admitted: that may be many times as much.
            rate_per_s = persisted_per_s
        if depth > DEEP * self._lag_max:
            rate_per_s *= HALVING**elapsed_s
        elif depth < SHALLOW * self._lag_max:
            rate_per_s *= GROWTH**elapsed_s
            if rate_per_s >= max(self._demand.per_s, persisted_per_s):
                return None
        return max(rate_per_s, self._least_per_s())

    def _least_per_s(self) -> float:
        return max(FLOOR_PER_S, LEAST * (self._persisted.per_s or 0.0))
