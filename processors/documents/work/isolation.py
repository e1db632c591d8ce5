"""Documents that are worked alone: those that were begun before and have not come to an end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Isolation:
    """A lock that many hold together, or one alone. Who wants it alone goes before those who come later."""

    def __init__(self) -> None:
        self._together = 0
        self._is_alone = False
        self._waiting_alone = 0
        self._waiting: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def held(self, *, alone: bool) -> AsyncIterator[None]:
        """Hold it; the wait has no bound of its own: whoever holds it comes to an end."""
        if alone:
            async with self._held_alone():
                yield
            return
        await self._until(lambda: not self._is_alone and not self._waiting_alone)
        self._together += 1
        try:
            yield
        finally:
            self._together -= 1
            self._wake()

    @asynccontextmanager
    async def _held_alone(self) -> AsyncIterator[None]:
        self._waiting_alone += 1
        try:
            await self._until(lambda: not self._is_alone and not self._together)
        finally:
            self._waiting_alone -= 1
            self._wake()
        self._is_alone = True
        try:
            yield
        finally:
            self._is_alone = False
            self._wake()

    async def _until(self, is_free: Callable[[], bool]) -> None:
        while not is_free():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()
