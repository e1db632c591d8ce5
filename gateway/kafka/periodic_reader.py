"""Lookups that are repeated for as long as the gateway runs."""

import asyncio
from abc import ABC, abstractmethod
from typing import ClassVar, Self

POLL_INTERVAL_S = 2.0


class PeriodicReader(ABC):
    """Base class that calls `refresh` on entry and every `poll_interval_s` until exit."""

    poll_interval_s: ClassVar[float] = POLL_INTERVAL_S
    _task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        """Refresh, and go on."""
        await self.refresh()
        self._task = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @abstractmethod
    async def refresh(self) -> None:
        """Read once; must not raise where the log or the store does not answer."""

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(self.poll_interval_s)
            await self.refresh()
