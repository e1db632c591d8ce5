"""Lookups that are repeated for as long as the gateway runs."""

import asyncio
from abc import ABC, abstractmethod
from typing import Self

LOOK_EVERY_S = 2.0


class Looking(ABC):
    """Looks at entry, and every `LOOK_EVERY_S` until exit; an async context manager."""

    _task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        """Look, and go on looking."""
        await self.look()
        self._task = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop looking."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @abstractmethod
    async def look(self) -> None:
        """Look once; must not raise where the log or the store does not answer."""

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()
