"""
Rate limits: events (or requests) within any 60 s, by run, agent and tenant.

A window slides by whole seconds. It counts the current second and the 60 before it, so that no 60 s ever hold more
than the limit; a charge may count for up to one second longer than it must.

Pure: time is given, in seconds of a monotonic clock (an earlier one than before counts as the latest), and nothing
is shared: one `Limits` belongs to one thread. Each replica counts what it takes itself, from its start. A client
that spreads over N replicas is held to N times its limit at most; one that comes to a single replica, as a run does
where the ingress hashes on run_id, to exactly its limit.
"""

from collections import OrderedDict
from collections.abc import Sequence
from enum import StrEnum
from math import inf

import msgspec

from gateway.errors import HttpError
from schemas.errors import ErrorCode

WINDOW_S = 60
WINDOWS_MAX = 100_000  # of each kind; 0.5 KB each, 3 KB where each second has a charge
# The second that runs has only begun: without one more, its part and the oldest's would reach beyond 60 s.
_COUNTED_S = WINDOW_S + 1
_DROPPED_AT_ONCE = 8  # idle windows that make room for a new one: more than one, so that they do not pile up


class Kind(StrEnum):
    """The subject of a limit. Key and address count requests, before any parsing; the others count events."""

    RUN = "run"
    AGENT = "agent"
    USER = "user"
    TENANT = "tenant"
    KEY = "key"
    ADDRESS = "address"


# Unique over all tenants, so a run is (tenant, run_id), an agent (tenant, agent_id) and a user (tenant, user_id).
Name = str | tuple[str, str]
# A window and what it may hold: kind, name, most within 60 s. A plain tuple: three are made for each event.
Bound = tuple[Kind, Name, int]


class _Window:
    """The charges of one name, by second."""

    __slots__ = ("counts", "second", "total")

    def __init__(self, second: int) -> None:
        self.counts: dict[int, int] = {}  # the oldest first, none of them 0
        self.total = 0
        self.second = second  # as of which what is too old is gone

    def slide(self, second: int) -> None:
        """Drop the charges that are too old at *second*."""
        counts, first = self.counts, second - WINDOW_S
        while counts and (oldest := next(iter(counts))) < first:
            self.total -= counts.pop(oldest)
        self.second = second

    def reset_s(self) -> int:
        """Return the seconds until the oldest charge leaves; WINDOW_S will do for a new one, which counts for 61 s."""
        oldest = next(iter(self.counts), self.second)
        return min(WINDOW_S, oldest + _COUNTED_S - self.second)

    def wait_s(self, count: int, limit: int) -> float:
        """Return the seconds until *count* more fit if nothing else comes: 0 if they do now, inf if they never will."""
        over = self.total + count - limit
        if over <= 0:
            return 0
        for second, charged in self.counts.items():
            over -= charged
            if over <= 0:
                return second + _COUNTED_S - self.second
        return inf


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """The rest of the tightest window of a charge, and the data that `Limits.give_back` needs."""

    kind: Kind
    limit: int
    remaining: int
    reset_s: int  # 1 to 60: within so many seconds no more than `remaining` fits
    bounds: Sequence[Bound]
    second: int
    windows: Sequence[_Window]


class OverLimit(HttpError):
    """A charge does not fit, and nothing of it is charged. Retry after `retry_after_s`; None: never as large."""

    code = ErrorCode.RATE_LIMIT_EXCEEDED

    def __init__(self, quota: Quota, *, count: int, retry_after_s: int | None) -> None:
        """Carry *quota*, that of the window that takes longest until it has room for *count*."""
        super().__init__(
            f"{count} and what came before are more than the {quota.kind}'s {quota.limit} within {WINDOW_S} s"
            if retry_after_s is not None
            else f"{count} at once are more than the {quota.kind} may ever have within {WINDOW_S} s: {quota.limit}"
        )
        self.quota = quota
        self.retry_after_s = retry_after_s

    def headers(self) -> Sequence[tuple[str, str]]:
        """See `HttpError.headers`."""
        limits = (("RateLimit", rate_limit(self.quota)), ("RateLimit-Policy", rate_limit_policy(self.quota)))
        return (*limits, *super().headers())


class Limits:
    """
    The windows that are charged.

    At most *windows_max* of each kind are kept. One that has been idle for 61 s holds nothing and is dropped as
    new ones come. Beyond the bound the one asked for longest ago is forgotten, with what it holds: nobody is
    refused because others are many, and whose window is forgotten gets at most its limit once more. Forgetting a run
    does not loosen its agent's or tenant's limit: their windows are of other kinds, and the credentials bound their
    number. Only what is charged is kept, so names made up by one who is refused push out nobody.
    """

    def __init__(self, windows_max: int = WINDOWS_MAX) -> None:
        """Start with nothing charged."""
        self.forgotten_count = 0  # windows that held something when the bound pushed them out
        self._windows_max = windows_max
        # In the order of the second each was last asked for, so that the idle come first.
        self._kept: dict[Kind, OrderedDict[Name, _Window]] = {kind: OrderedDict() for kind in Kind}
        self._second = 0

    def __len__(self) -> int:
        """Return how many windows are kept."""
        return sum(map(len, self._kept.values()))

    def charge(self, bounds: Sequence[Bound], count: int, now_s: float) -> Quota:
        """
        Charge *count* to the window of each of *bounds*, or to none; one or more, no window twice.

        Raises:
            OverLimit: it does not fit into one of them.
        """
        second = int(now_s)
        if second > self._second:
            self._second = second
        else:  # not only against an earlier clock: all windows share one object for a second
            second = self._second
        windows: list[_Window] = []
        least, missing = inf, False
        for bound in bounds:
            kind, name, limit = bound
            window = self._kept[kind].get(name)
            if window is None:
                window, missing = _Window(second), True
            elif window.second != second:
                self._touch(kind, name, window)
            remaining = limit - window.total - count
            if remaining < 0:
                raise self._over(bounds, count)
            if remaining < least:
                least, tightest = remaining, len(windows)
            windows.append(window)
        if missing:
            self._keep(bounds, windows)
        for window in windows:
            window.counts[second] = window.counts.get(second, 0) + count
            window.total += count
        return _quota(bounds, windows, tightest)

    def give_back(self, quota: Quota, count: int) -> None:
        """
        Give back *count* of what was charged for *quota*, to the second it was charged in.

        What has left its window since is not given back, nor more than is left of that second.
        """
        for window in quota.windows:
            charged = window.counts.get(quota.second, 0)
            window.total -= min(count, charged)
            if charged > count:
                window.counts[quota.second] = charged - count
            elif charged:
                del window.counts[quota.second]

    def _touch(self, kind: Kind, name: Name, window: _Window) -> None:
        window.slide(self._second)
        self._kept[kind].move_to_end(name)

    def _keep(self, bounds: Sequence[Bound], windows: Sequence[_Window]) -> None:
        for (kind, name, _), window in zip(bounds, windows, strict=True):
            kept = self._kept[kind]
            if name not in kept:
                self._drop_idle(kept)
                if len(kept) >= self._windows_max:
                    _, forgotten = kept.popitem(last=False)
                    self.forgotten_count += forgotten.total > 0
                kept[name] = window

    def _drop_idle(self, kept: OrderedDict[Name, _Window]) -> None:
        for _ in range(_DROPPED_AT_ONCE):
            idlest = next(iter(kept.values()), None)
            if idlest is None or idlest.second >= self._second - WINDOW_S:
                return
            kept.popitem(last=False)

    def _over(self, bounds: Sequence[Bound], count: int) -> OverLimit:
        windows = [self._look(kind, name) for kind, name, _ in bounds]
        waits_s = [window.wait_s(count, limit) for window, (_, _, limit) in zip(windows, bounds, strict=True)]
        longest_s = max(waits_s)
        quota = _quota(bounds, windows, waits_s.index(longest_s))
        return OverLimit(quota, count=count, retry_after_s=None if longest_s == inf else int(longest_s))

    def _look(self, kind: Kind, name: Name) -> _Window:
        window = self._kept[kind].get(name)
        if window is None:
            return _Window(self._second)
        self._touch(kind, name, window)
        return window


def _quota(bounds: Sequence[Bound], windows: Sequence[_Window], index: int) -> Quota:
    kind, _, limit = bounds[index]
    window = windows[index]
    return Quota(
        kind=kind,
        limit=limit,
        remaining=max(0, limit - window.total),  # over it where it was lowered since
        reset_s=window.reset_s(),
        bounds=bounds,
        second=window.second,
        windows=windows,
    )


def rate_limit(quota: Quota) -> str:
    """Return the `RateLimit` field (draft-ietf-httpapi-ratelimit-headers-11): what is left in the tightest window."""
    return f'"{quota.kind}";r={quota.remaining};t={quota.reset_s}'


def rate_limit_policy(quota: Quota) -> str:
    """
    Return the `RateLimit-Policy` field of the same draft: each limit that was asked, whether tight or not.

    Without `qu`, the unit: the draft allows requests, bytes and concurrent requests only, and these are events.
    """
    return ", ".join([f'"{kind}";q={limit};w={WINDOW_S}' for kind, _, limit in quota.bounds])
