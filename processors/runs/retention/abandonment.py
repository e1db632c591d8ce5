"""Abandonment of open runs that have received nothing for long; a later record opens such a run again."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta

from processors.runs.retention.log import GroupsProgress, everything_passed
from processors.runs.retention.store import RetentionStore
from processors.runtime.errors import Transient


class Abandonment:
    """The periodic task that abandons idle runs."""

    def __init__(
        self,
        opened: Callable[[], AbstractAsyncContextManager[RetentionStore]],
        *,
        progress: GroupsProgress,
        clock: Callable[[], datetime],
        idle: timedelta,
    ) -> None:
        """Give up what is idle for so long; *progress* is that of the group that stores runs."""
        self._opened = opened
        self._progress = progress
        self._clock = clock
        self._idle = idle

    async def run(self) -> int:
        """
        Give up idle runs; return how many.

        Raises:
            Transient: something is away, or events that are in the log are not stored: a run may only seem idle.
        """
        before = self._clock() - self._idle
        if not await everything_passed(self._progress):
            raise Transient("events wait in the log to be stored: a run may only seem idle")
        async with self._opened() as store:
            return await store.abandon(before=before)
