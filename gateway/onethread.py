"""One thread for work that blocks: calls run one after the other, and few may wait."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from gateway.errors import QueueFull

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class OneThread:
    """A thread that runs blocking calls in order."""

    def __init__(self, name: str, *, waiting_max: int, full: str) -> None:
        """Prepare; the thread starts with the first call. *full* is what one beyond *waiting_max* is told."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting_max = waiting_max
        self._full = full
        self._waiting = 0  # the call that runs included

    async def run(self, call: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        """
        Return what *call* returns.

        Raises:
            QueueFull: too many wait already. Answer 429.
        """
        if self._waiting >= self._waiting_max:
            raise QueueFull(self._full)
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._executor.submit(call, *args, **kwargs))
        finally:
            self._waiting -= 1

    async def close(self, last: Callable[[], object]) -> None:
        """Run *last* behind what still runs, and end the thread."""
        await asyncio.wrap_future(self._executor.submit(last))
        self._executor.shutdown(wait=False)
