"""A thread with an event loop, for programs without one. After a fork the child's thread is gone."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

MARGIN_S = 5.0  # that a call may take beyond the bound of what it waits for

Result = TypeVar("Result")


class LoopThread:
    """A thread with an event loop of its own."""

    def __init__(self) -> None:
        """Start."""
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="tidegate-client", daemon=True)
        self._thread.start()

    @property
    def is_of_this_process(self) -> bool:
        """Return True if it was not left behind by a fork."""
        return self._pid == os.getpid()

    @property
    def serves(self) -> bool:
        """Return True if its loop can be waited for."""
        return self.is_of_this_process and self._thread.is_alive() and threading.current_thread() is not self._thread

    def wait(self, coroutine: Coroutine[Any, Any, Result], timeout_s: float | None) -> Result:
        """
        Run *coroutine* in the thread and return what it returns; without *timeout_s* it bounds its waits itself.

        Raises:
            TimeoutError: it goes on, and nobody waits for it any more.
            RuntimeError: the thread has stopped, or is the caller itself.
        """
        if not self.serves:
            coroutine.close()
            raise RuntimeError("the client's thread does not run: the client is closed, or was opened before a fork")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def stop(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(MARGIN_S)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
