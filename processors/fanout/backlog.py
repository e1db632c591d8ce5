"""The sockets whose clients read more slowly than they are sent to: written to as they read, within a bound for all."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from processors.fanout.outbox import Outbox

TRY_EVERY_S = 0.01
CHECK_SIZE_EVERY = 25  # of these
# Of all sockets together; messages that wait in several queues are one.
BYTES_MAX = 64 * 1024 * 1024


class Backlog:
    """A task that retries every outbox with unsent data; an async context manager."""

    def __init__(self, *, cut: Callable[[Outbox], None], bytes_max: int = BYTES_MAX) -> None:
        """Hold at most *bytes_max*; *cut* ends the socket of the largest outbox where there is more."""
        self._cut = cut
        self._bytes_max = bytes_max
        self._waiting: dict[Outbox, None] = {}
        self._some = asyncio.Event()

    def add(self, outbox: Outbox) -> None:
        """Try again for *outbox*."""
        self._waiting[outbox] = None
        self._some.set()

    async def __aenter__(self) -> Self:
        """Begin to try."""
        self._task = asyncio.create_task(self._go_on(), name="backlog")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Try no more."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _go_on(self) -> None:
        turn = 0
        while True:
            await self._some.wait()
            await asyncio.sleep(TRY_EVERY_S)
            turn += 1
            self.turn(check_size=turn % CHECK_SIZE_EVERY == 0)

    def turn(self, *, check_size: bool) -> None:
        """Write what clients have made room for; with *check_size*, end the largest outbox while all are too large."""
        tried, self._waiting = self._waiting, {}
        self._some.clear()
        for outbox in tried:
            outbox.flush()  # which adds itself again
        if check_size:
            self._evict_largest()

    def _evict_largest(self) -> None:
        # Counted twice where several wait for the same: only if that is too much is it weighed exactly.
        while sum(outbox.size_bytes for outbox in self._waiting) > self._bytes_max:
            unlike = {id(message): len(message.frame) for outbox in self._waiting for message in outbox.waiting()}
            if sum(unlike.values()) <= self._bytes_max:
                return
            largest = max(self._waiting, key=lambda outbox: outbox.size_bytes)
            del self._waiting[largest]
            self._cut(largest)
