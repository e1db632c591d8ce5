"""
The quotas of a provider, in requests and in tokens a minute, as buckets that requests are paid from. Pure.

In no 60 seconds more than a quota is sent, if no request is larger than `burst`: a bucket holds a tenth of it, and nine
tenths flow in over a minute. What is reserved is paid at once, and sent once the bucket is no longer in debt; so
requests of any size keep their order, and a large one is not kept waiting by small ones.
"""

BURST = 0.1  # of a quota, which a bucket holds
MINUTE_S = 60.0


class ProviderQuota:
    """One quota; times are seconds of a monotonic clock."""

    def __init__(self, per_minute: int) -> None:
        """Start with a full bucket; 0: without a quota."""
        self.burst = per_minute * BURST
        self._rate_per_s = per_minute * (1 - BURST) / MINUTE_S
        self._level = self.burst  # below 0: what is reserved and not yet sent
        self._filled_at_s = float("-inf")

    def backlog_s(self, now_s: float) -> float:
        """Return how long a new reservation waits for those before it."""
        if not self._rate_per_s:
            return 0.0
        self._fill(now_s)
        return max(0.0, -self._level / self._rate_per_s)

    def reserve(self, amount: int, now_s: float) -> float:
        """Reserve *amount*, and return the seconds after which it may be sent."""
        if not self._rate_per_s:
            return 0.0
        self._fill(now_s)
        self._level -= amount
        return max(0.0, -self._level / self._rate_per_s)

    def _fill(self, now_s: float) -> None:
        if now_s > self._filled_at_s:
            self._level = min(self.burst, self._level + (now_s - self._filled_at_s) * self._rate_per_s)
            self._filled_at_s = now_s
