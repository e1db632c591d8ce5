"""Looks at Postgres, again and again, until what a request waits for is there: few at once, and bounded in time."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

FIRST_S = 0.05
LONGEST_S = 1.0
GROWTH = 1.5
WAITERS_MAX = 100

Seen = TypeVar("Seen")


class Polling:
    """The waits of a gateway's requests."""

    def __init__(self, *, waiters_max: int = WAITERS_MAX, first_s: float = FIRST_S) -> None:
        """Let *waiters_max* wait at once; the first pause is *first_s*, and each is longer than the one before."""
        self._waiters_max = waiters_max
        self._first_s = first_s
        self._waiters = 0

    async def until(self, look: Callable[[], Awaitable[Seen | None]], *, timeout_s: float) -> Seen | None:
        """
        Return what *look* returns once it is not None; None after *timeout_s*, or after one look if too many wait.

        Raises as *look*.
        """
        if (seen := await look()) is not None or self._waiters >= self._waiters_max:
            return seen
        self._waiters += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    return await self._again(look)
        finally:
            self._waiters -= 1
        return None

    async def _again(self, look: Callable[[], Awaitable[Seen | None]]) -> Seen:
        pause_s = self._first_s
        while True:
            await asyncio.sleep(pause_s)
            if (seen := await look()) is not None:
                return seen
            pause_s = min(LONGEST_S, pause_s * GROWTH)
