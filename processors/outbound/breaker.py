"""
A circuit breaker for one endpoint. Pure: each call is given the time.

Closed, it counts failures. After 5 in a row, or when half of the last 20 attempts failed, it opens: nothing is
attempted, and the group's offsets wait. Half-open, one attempt decides. Disabled, an operator decides.

The waiting lanes take turns at that attempt: a record on which the receiver always fails must not be the only probe.
"""

from collections import Counter, deque
from collections.abc import Callable, Hashable

from schemas.pacing.breaker import BreakerState

IN_A_ROW_MAX = 5
WINDOW = 20
WINDOW_SHARE_MAX = 0.5
WAITING_FOR_S = 15.0  # who has not asked for so long waits no more: lanes ask every 5 s

OnChange = Callable[[BreakerState, str | None], None]


class Breaker:
    """The state of one endpoint, for all lanes of a worker."""

    def __init__(self, *, changed: OnChange) -> None:
        """Start closed; *changed* is told each new state and, unless it is closed, why."""
        self.state = BreakerState.CLOSED
        self.reason: str | None = None
        self.succeeded_at_s = float("-inf")
        self._changed = changed
        self._last: deque[bool] = deque(maxlen=WINDOW)
        self._in_a_row = 0
        self._opens_until_s = 0.0
        self._probing: Hashable | None = None
        self._waiting: dict[Hashable, float] = {}  # who was denied, and when last
        self._probes: Counter[Hashable] = Counter()  # by whom, since it opened

    @property
    def is_closed(self) -> bool:
        """Return True if the endpoint is sent to as usual."""
        return self.state is BreakerState.CLOSED

    def admits(self, now_s: float, *, who: Hashable) -> bool:
        """
        Return True if *who* may make an attempt now; its end must then be reported by one of the four methods below.
        """
        if self.state is BreakerState.CLOSED:
            return True
        if self.state is BreakerState.OPEN and now_s >= self._opens_until_s:
            self._become(BreakerState.HALF_OPEN, self.reason)
        if self.state is BreakerState.HALF_OPEN and self._probing is None and self._is_turn_of(who, now_s):
            self._probing = who
            self._probes[who] += 1
            return True
        self._waiting[who] = now_s
        return False

    def succeeded(self, now_s: float) -> None:
        """Note that the endpoint took a record, or refused it for good: it is there."""
        self.succeeded_at_s = now_s
        self._in_a_row = 0
        self._last.append(True)
        if self.state in (BreakerState.OPEN, BreakerState.HALF_OPEN):
            self._close()

    def failed(self, now_s: float, reason: str, *, who: Hashable, open_s: float) -> None:
        """Note that an attempt of *who* failed, with *reason*; when that opens the breaker, it is for *open_s*."""
        self._in_a_row += 1
        self._last.append(False)
        if self.state is BreakerState.CLOSED and not self._is_too_much():
            return
        if self.state is BreakerState.CLOSED or (self.state is BreakerState.HALF_OPEN and who == self._probing):
            self._probing = None
            self._opens_until_s = now_s + open_s
            self._become(BreakerState.OPEN, reason)

    def abandoned(self, *, who: Hashable) -> None:
        """Note that an attempt of *who* came to no end."""
        if who == self._probing:
            self._probing = None

    def disabled(self, reason: str) -> None:
        """Note that the endpoint wants no more; only `enabled` ends that."""
        self._become(BreakerState.DISABLED, reason)

    def enabled(self) -> None:
        """Start over: a person said so."""
        self._in_a_row = 0
        self._close()

    def _close(self) -> None:
        self._last.clear()
        self._probing = None
        self._waiting.clear()
        self._probes.clear()
        self._become(BreakerState.CLOSED, None)

    def _is_turn_of(self, who: Hashable, now_s: float) -> bool:
        self._waiting = {each: at_s for each, at_s in self._waiting.items() if now_s - at_s <= WAITING_FOR_S}
        return all(self._probes[who] <= self._probes[each] for each in self._waiting)

    def _is_too_much(self) -> bool:
        failures = self._last.count(False)
        return self._in_a_row >= IN_A_ROW_MAX or (len(self._last) == WINDOW and failures >= WINDOW * WINDOW_SHARE_MAX)

    def _become(self, state: BreakerState, reason: str | None) -> None:
        if state is not self.state:
            self.state, self.reason = state, reason
            self._changed(state, reason)
