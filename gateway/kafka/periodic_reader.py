"""Lookups that are repeated for as long as the gateway runs."""

import asyncio
from abc import ABC, abstractmethod
from typing import Self

REFRESH_EVERY_S = 2.0


class PeriodicReader(ABC):
    """What is read at entry and again every `REFRESH_EVERY_S` until exit; an async context manager."""

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
            await asyncio.sleep(REFRESH_EVERY_S)
            await self.refresh()
