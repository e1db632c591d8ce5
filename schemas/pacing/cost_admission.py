"""
The rate at which work is admitted by its cost, so that what waits takes a bounded time.

The depth is measured in seconds: the cost that waits by the cost that is drained each second. Records would be no
measure, because one may be a thousand times the work of another. Below three tenths of the bound everything is
admitted; a limit from before goes once nobody has to wait for it. From there on the rate follows
`schemas.pacing.law`, and at the bound nothing is admitted. As with `Admission`, whatever comes until the first step
that sees a deep backlog is admitted.

Pure: time is given, in seconds of a monotonic clock. One `CostAdmission` belongs to one thread. Of *gateways* that
share a backlog each admits its part of the drain. Where their number is not known they still settle, up to four of
them: somewhat deeper, where the parts of all come to one drain. More of them cannot all fall below it, and meet at
the bound.
"""

from math import inf

from schemas.pacing.bucket import TokenBucket
from schemas.pacing.law import DEEP, LEAST, SHALLOW, TARGET, bounded, multiplier, next_rate_per_s
from schemas.pacing.presets import Preset
from schemas.pacing.rates import AverageRate, step_s

WAIT_MAX_S = 10.0  # the rate is decided again each second: a longer forecast would be wrong
REFUSAL_MAX_S = 60.0  # a drain that stands still may be back at any time


class CostAdmission:
    """The admitted rate, and who has to wait for it."""

    def __init__(self, preset: Preset, *, item_cost: float = 1.0, gateways: int = 1) -> None:
        """Start without a limit; the preset's rate is in items, and *item_cost* the cost of a common one."""
        self._preset = preset
        self._gateways = gateways
        self._bucket = TokenBucket()  # a token is a unit of cost
        self._assumed_per_s = preset.rate_per_s * item_cost
        self._drained = AverageRate(self._assumed_per_s)
        self._waited_at_s = -inf  # when somebody was last told to wait
        self._stepped_at_s: float | None = None
        self._depth_s: float | None = None

    @property
    def rate_per_s(self) -> float | None:
        """Return the admitted rate in cost a second; None: no limit."""
        return self._bucket.rate_per_s

    @property
    def depth_s(self) -> float | None:
        """Return the seconds that what waits takes, infinite where nothing is drained; None: never known."""
        return self._depth_s

    @property
    def multiplier(self) -> float:
        """Return the rate as a part of this gateway's part of the drain, 0.2 to 2.0; 1.0 without a limit."""
        drained_per_s = self._drained_per_s()
        if self.rate_per_s is None:
            return 1.0
        return bounded(self.rate_per_s * self._gateways / drained_per_s) if drained_per_s else LEAST

    def tokens(self, now_s: float) -> float:
        """Return the cost that may come at once; below 0 a large item is being paid for."""
        return self._bucket.tokens(now_s)

    def step(
        self, backlog_cost: float | None, drained_per_s: float, now_s: float, *, oldest_s: float | None = None
    ) -> None:
        """
        Decide the rate; called about once a second, each time after a new look at the backlog.

        A *backlog_cost* of None is not known: the rate stays as it is, because not knowing is no reason to block.
        *drained_per_s* is measured since the last step, in cost, and of no account where the backlog is not known.
        *oldest_s* is the age of what has waited longest; None: nothing waits, or it is not known.
        """
        if (elapsed_s := step_s(self._stepped_at_s, now_s)) is None:
            return
        self._stepped_at_s = now_s
        if backlog_cost is None:
            return
        # With next to nothing waiting, what is drained shows how much came, and not how much could be drained.
        if backlog_cost > drained_per_s or drained_per_s > self._drained_per_s():
            self._drained.add(drained_per_s, elapsed_s)
        self._depth_s = _depth_s(backlog_cost, self._drained_per_s())
        self._bucket.set_rate(self._next_rate_per_s(self._depth_s, oldest_s or 0.0, elapsed_s, now_s), now_s)

    def admit(self, cost: float, now_s: float) -> float:
        """
        Admit work of *cost*, all or none: 0.0, or the seconds after which to ask again.

        It is admitted once there is room for one unit, and paid for afterwards, so that large items do not starve
        behind small ones.
        """
        wait_s = self.wait_s(now_s)
        if wait_s == 0:
            self._bucket.take(cost)
        return wait_s

    def wait_s(self, now_s: float) -> float:
        """Return the same as `admit`, but admit nothing: on 0.0 the caller must ask `admit` once more."""
        wait_s = self._refused_s() or min(WAIT_MAX_S, self._bucket.wait_s(now_s))
        if wait_s > 0:
            self._waited_at_s = now_s
        return wait_s

    def _refused_s(self) -> float:
        """Return the seconds until the depth is below four fifths of the bound again; 0.0: it is below the bound."""
        if self._depth_s is None or self._depth_s < self._preset.depth_max_s:
            return 0.0
        # Half the bound at most: whatever was measured badly, the drain does not run dry meanwhile.
        longest_s = min(REFUSAL_MAX_S, TARGET * self._preset.depth_max_s)
        return min(longest_s, self._depth_s - DEEP * self._preset.depth_max_s)

    def _next_rate_per_s(self, depth_s: float, oldest_s: float, elapsed_s: float, now_s: float) -> float | None:
        drained_per_s = self._drained_per_s()
        least_per_s = LEAST * drained_per_s / self._gateways
        part = multiplier(depth_s, self._preset)
        is_shallow = depth_s < SHALLOW * self._preset.depth_max_s
        if is_shallow:
            # Of the whole drain: other gateways need not ask for their parts. And something where nothing was drained,
            # because nothing else leads away from there.
            least_per_s = max(least_per_s, LEAST * self._assumed_per_s / self._gateways)
            goal_per_s = max(least_per_s, part * drained_per_s)
        else:
            if oldest_s > self._preset.depth_max_s:
                # Work that is older than the bound although the depth is not: what is drained is shared unevenly, or
                # measured too high. The depth must not grow.
                part = min(1.0, part)
            goal_per_s = part * drained_per_s / self._gateways
        if self.rate_per_s is None:
            return None if is_shallow else goal_per_s
        rate_per_s = next_rate_per_s(max(self.rate_per_s, least_per_s), goal_per_s, elapsed_s, self._preset)
        # Whoever was told to wait is quiet until then: the limit goes once all of them have come back and got on.
        return None if is_shallow and now_s - self._waited_at_s > WAIT_MAX_S else rate_per_s

    def _drained_per_s(self) -> float:
        return self._drained.per_s or 0.0


def _depth_s(backlog_cost: float, drained_per_s: float) -> float:
    if backlog_cost <= 0:
        return 0.0
    return backlog_cost / drained_per_s if drained_per_s else inf
