"""
A rate limit that follows the depth of a queue, in front of any work that takes permits.

    controller = AdaptiveController(AdaptiveControllerPresets.CONSERVATIVE)
    if await controller.acquire_permit():
        await work()
        controller.record_processing(elapsed_s, success=True)
    controller.update_queue_depth(current_depth=50, max_depth=1000)

The rate is a part of the preset's, 0.2 to 2.0, by `schemas.pacing.law`. It is no part of what was processed: permits
pace the processing itself, so each would follow the other down to nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import isfinite
from time import monotonic
from typing import ClassVar, TypedDict

from schemas.pacing.bucket import TokenBucket
from schemas.pacing.law import multiplier, next_rate_per_s
from schemas.pacing.presets import AGGRESSIVE, BALANCED, CONSERVATIVE, Preset
from schemas.pacing.rates import step_s

NEW_TIME_PART = 0.1  # of the average, that the last item has


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveConfig:
    """The preset of a controller, and its patience."""

    preset: Preset = BALANCED
    wait_max_s: float = 30.0  # for a permit


class AdaptiveControllerPresets:
    """The configurations that are ready to use."""

    CONSERVATIVE: ClassVar = AdaptiveConfig(preset=CONSERVATIVE)
    BALANCED: ClassVar = AdaptiveConfig(preset=BALANCED)
    AGGRESSIVE: ClassVar = AdaptiveConfig(preset=AGGRESSIVE)


class AdaptiveMetrics(TypedDict):
    """The figures of a controller."""

    current_rate_multiplier: float  # 0.2 to 2.0
    queue_depth: int  # as it was last updated
    tokens_available: float  # below 0 while permits that were given in advance are paid off
    avg_processing_time_ms: float  # of what succeeded, the last items weighing most; 0.0: nothing did yet


class AdaptiveController:
    """The permits, and the rate at which they are given; belongs to one event loop."""

    def __init__(
        self,
        config: AdaptiveConfig = AdaptiveControllerPresets.BALANCED,
        *,
        clock_s: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Start at the preset's rate, and keep it until the depth of the queue is known."""
        self._config = config
        self._preset = config.preset
        self._clock_s = clock_s
        self._sleep = sleep
        self._rate_per_s = self._preset.rate_per_s
        self._bucket = TokenBucket()
        self._bucket.set_rate(self._rate_per_s, clock_s())
        self._stepped_at_s = clock_s()
        self._depth = 0
        self._depth_s: float | None = None
        self._average_s: float | None = None

    async def acquire_permit(self, tokens: float = 1.0) -> bool:
        """
        Take *tokens* and wait until they are due, in the order of the calls.

        Return False, at once and with nothing taken, where that would take longer than `wait_max_s`. More tokens than
        the rate has in a second are due as soon as there is room for one, and whoever comes next waits for them.
        """
        if not (tokens > 0 and isfinite(tokens)):
            raise ValueError(f"{tokens} tokens: it must be a number above 0")
        now_s = self._clock_s()
        self._step(now_s)
        wait_s = self._bucket.wait_s(now_s)
        if wait_s > self._config.wait_max_s:
            return False
        self._bucket.take(tokens)
        if wait_s > 0:
            try:
                await self._sleep(wait_s)
            except asyncio.CancelledError:
                self._bucket.give_back(tokens)
                raise
        return True

    def record_processing(self, elapsed_s: float, success: bool) -> None:  # noqa: FBT001  # users call it so
        """Record that an item was processed; the time of a failure says nothing of the work and is not averaged."""
        if success:
            before_s = elapsed_s if self._average_s is None else self._average_s
            self._average_s = before_s + NEW_TIME_PART * (elapsed_s - before_s)

    def update_queue_depth(self, current_depth: int, max_depth: int) -> None:
        """Follow the queue; the rate falls above 80% of *max_depth* and rises below 30%, as time passes."""
        if max_depth <= 0:
            raise ValueError(f"max_depth is {max_depth}: it must be above 0")
        self._step(self._clock_s())  # the time until now was at the old depth
        self._depth = current_depth
        self._depth_s = current_depth / max_depth * self._preset.depth_max_s

    def get_metrics(self) -> AdaptiveMetrics:
        """Return the figures as they are now."""
        now_s = self._clock_s()
        self._step(now_s)
        return AdaptiveMetrics(
            current_rate_multiplier=self._rate_per_s / self._preset.rate_per_s,
            queue_depth=self._depth,
            tokens_available=self._bucket.tokens(now_s),
            avg_processing_time_ms=1000 * (self._average_s or 0.0),
        )

    def _step(self, now_s: float) -> None:
        if (elapsed_s := step_s(self._stepped_at_s, now_s)) is None:
            return
        self._stepped_at_s = now_s
        if self._depth_s is not None:
            goal_per_s = multiplier(self._depth_s, self._preset) * self._preset.rate_per_s
            self._rate_per_s = next_rate_per_s(self._rate_per_s, goal_per_s, elapsed_s, self._preset)
            self._bucket.set_rate(self._rate_per_s, now_s)
