"""
Admission of documents by the seconds of work that wait in their lane, and the place of a document in it.

Each lane has an admission of its own, since its share of the embedders is its own: a deep one closes no other. What
waits and what is done comes from Postgres, once a second. While that does not answer, the rates stay as they are.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from math import ceil
from time import monotonic

import msgspec
from msgspec import UNSET

from gateway.documents.store import LaneWork
from gateway.documents.views import QueuePlace
from gateway.errors import SlowedDown, StoreUnavailable
from gateway.kafka.periodic_reader import PeriodicReader
from schemas.documents.states import LANE_WEIGHTS, Lane
from schemas.documents.topics import EMBED
from schemas.pacing.cost_admission import CostAdmission
from schemas.pacing.law import SHALLOW
from schemas.pacing.presets import Preset
from schemas.process.telemetry import ADMISSION_MULTIPLIER, Telemetry

ITEM_COST = 1_000  # characters: about a chunk, of which a core embeds some 40 a second
# A document counts as done when all of it is: what is measured comes in bursts, as large as documents are.
WINDOW_PART = 0.25  # of the preset's bound
WINDOW_MAX_S = 60.0


class DrainRate:
    """The rate at which a lane's work is done, over a window."""

    def __init__(self, window_s: float) -> None:
        """Measure over the last *window_s*."""
        self._window_s = window_s
        self._looks: deque[tuple[float, int]] = deque()  # when, and the cost of all that was ever done

    def add(self, done_cost: int, now_s: float) -> None:
        """Add a look: *done_cost* is the cost of all that was ever done."""
        self._looks.append((now_s, done_cost))
        while len(self._looks) > 2 and now_s - self._looks[1][0] >= self._window_s:  # noqa: PLR2004  both ends
            self._looks.popleft()

    @property
    def per_s(self) -> float | None:
        """Return the cost that is done a second; None: not known yet, as nothing was done in less than a window."""
        if len(self._looks) < 2:  # noqa: PLR2004
            return None
        (first_s, first), (last_s, last) = self._looks[0], self._looks[-1]
        elapsed_s, done = last_s - first_s, max(0, last - first)  # what is run again by hand counts as never done
        if elapsed_s <= 0 or (not done and elapsed_s < self._window_s):
            return None
        return done / elapsed_s


class LanePace:
    """The admission of one lane."""

    def __init__(self, preset: Preset) -> None:
        """Start without a limit."""
        self.admission = CostAdmission(preset, item_cost=ITEM_COST)
        self.drain = DrainRate(min(WINDOW_MAX_S, WINDOW_PART * preset.depth_max_s))
        # So little is no reason to refuse anything while nothing is done: embedders restart, and one document may hang.
        self._standstill_cost_max = SHALLOW * preset.depth_max_s * preset.rate_per_s * ITEM_COST

    def step(self, work: LaneWork, now_s: float) -> None:
        """Decide the rate after a look."""
        self.drain.add(work.done_cost, now_s)
        drained_per_s = self.drain.per_s
        if drained_per_s is None:
            self.hold(now_s)
        elif drained_per_s == 0 and work.cost <= self._standstill_cost_max:
            self.admission.step(0, 0.0, now_s)
        else:
            self.admission.step(work.cost, drained_per_s, now_s, oldest_s=work.oldest_s)

    def hold(self, now_s: float) -> None:
        """Leave the rate as it is: nothing is known."""
        self.admission.step(None, 0.0, now_s)


class DocumentPace(PeriodicReader):
    """The admission of this gateway's documents; an async context manager that looks at Postgres once a second."""

    poll_interval_s = 1.0

    def __init__(
        self,
        look: Callable[[], Awaitable[Mapping[Lane, LaneWork]]],
        preset: Preset,
        *,
        telemetry: Telemetry,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        """Admit as *preset* has it, by what *look* returns."""
        self._look = look
        self._clock_s = clock_s
        self._lanes = {lane: LanePace(preset) for lane in Lane}
        self._seen: Mapping[Lane, LaneWork] | None = None  # None: not known now
        telemetry[ADMISSION_MULTIPLIER].labels(EMBED.name).set_function(lambda: self.multiplier)

    @property
    def multiplier(self) -> float:
        """Return the rate as a part of what is done, 0.2 to 2.0, of the lane that is held down most; 1.0: of none."""
        limited = [pace.admission.multiplier for pace in self._limited()]
        return min(limited, default=1.0)

    @property
    def tokens_available(self) -> float | None:
        """Return the cost that may come at once, of the lane that has the least; None: no lane has a limit."""
        now_s = self._clock_s()
        return min((pace.admission.tokens(now_s) for pace in self._limited()), default=None)

    async def refresh(self) -> None:
        """Look once."""
        try:
            self._seen = await self._look()
        except StoreUnavailable:
            self._seen = None
        now_s = self._clock_s()
        for lane, pace in self._lanes.items():
            if self._seen is None:
                pace.hold(now_s)
            else:
                pace.step(self._seen[lane], now_s)

    def admit(self, costs: Mapping[Lane, int]) -> None:
        """
        Admit work of *costs*, by lane: all or none.

        Raises:
            SlowedDown: a lane is too deep, or its rate is held down.
        """
        now_s = self._clock_s()
        wait_s = max((self._lanes[lane].admission.wait_s(now_s) for lane in costs), default=0.0)
        if wait_s > 0:
            raise SlowedDown(retry_after_s=ceil(wait_s))
        for lane, cost in costs.items():
            self._lanes[lane].admission.admit(cost, now_s)

    def place(self, lane: Lane) -> QueuePlace | None:
        """Return the place of a document that comes to *lane* now; None: not known."""
        if self._seen is None:
            return None
        work = self._seen[lane]
        return self.timed(QueuePlace(lane=lane, ahead_count=work.count, ahead_cost=work.cost))

    def timed(self, place: QueuePlace) -> QueuePlace:
        """Return *place* with the seconds that it takes, where they are known."""
        ahead_s = self.ahead_s(place.lane, place.ahead_cost)
        return msgspec.structs.replace(place, ahead_s=UNSET if ahead_s is None else round(ahead_s, 1))

    def ahead_s(self, lane: Lane, ahead_cost: int) -> float | None:
        """
        Return the seconds until *ahead_cost* of a lane is done, at the rate of now; None: not known.

        The lane has at least its share of what is done, and the lanes together take no longer than all of their work.
        """
        if self._seen is None:
            return None
        done_per_s = sum(pace.drain.per_s or 0.0 for pace in self._lanes.values())
        if not done_per_s:
            return None
        busy = {each for each, work in self._seen.items() if work.cost} | {lane}
        share = LANE_WEIGHTS[lane] / sum(LANE_WEIGHTS[each] for each in busy)
        all_cost = max(ahead_cost, sum(work.cost for work in self._seen.values()))
        return min(ahead_cost / share, all_cost) / done_per_s

    def _limited(self) -> list[LanePace]:
        return [pace for pace in self._lanes.values() if pace.admission.rate_per_s is not None]
