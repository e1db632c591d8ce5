"""
A token bucket with debt.

A batch is admitted once there is room for one token and paid off afterwards: it would otherwise starve behind single
ones. So in T seconds at most rate x (T + `BURST_S`) tokens and one batch pass.

Pure: time is given, in seconds of a monotonic clock. One bucket belongs to one thread.
"""

from math import inf

BURST_S = 1.0  # of the rate: what may come at once after a pause
ROOM = 1.0  # tokens that must be there; a slow bucket holds at least so many, or nothing would ever pass


class TokenBucket:
    """Tokens that come at a rate and are taken by what passes."""

    def __init__(self, rate_per_s: float | None = None) -> None:
        """Start empty, at *rate_per_s* from second 0 on; None: no limit."""
        self._rate_per_s = rate_per_s
        self._tokens = 0.0  # below 0 a large batch is being paid for
        self._filled_at_s = 0.0

    @property
    def rate_per_s(self) -> float | None:
        """Return the tokens that come each second; None: no limit."""
        return self._rate_per_s

    def set_rate(self, rate_per_s: float | None, now_s: float) -> None:
        """Go on at *rate_per_s*; the time until now was at the old rate. A bucket that had no limit starts empty."""
        if self._rate_per_s is None:
            self._tokens, self._filled_at_s = 0.0, now_s
        self.tokens(now_s)
        self._rate_per_s = rate_per_s

    def tokens(self, now_s: float) -> float:
        """Return the tokens that are there, below 0 while a batch is paid off; of no meaning without a limit."""
        if self._rate_per_s is not None and now_s > self._filled_at_s:
            filled = self._tokens + (now_s - self._filled_at_s) * self._rate_per_s
            self._tokens = min(filled, max(ROOM, BURST_S * self._rate_per_s))
            self._filled_at_s = now_s
        return self._tokens

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until there is room; 0.0: now; infinite at a rate of 0."""
        if self._rate_per_s is None or (tokens := self.tokens(now_s)) >= ROOM:
            return 0.0
        return (ROOM - tokens) / self._rate_per_s if self._rate_per_s else inf

    def take(self, count: float) -> None:
        """Take *count* tokens, whether they are there or not."""
        self._tokens -= count

    def give_back(self, count: float) -> None:
        """Give back *count* tokens of what was taken."""
        self._tokens += count
