"""An event loop without clock, sockets or chance: callbacks run in their order, and time passes when it is told to."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

TURNS_MAX = 10_000  # callbacks until everything waits; more of them are a loop that never does


class Turns(asyncio.AbstractEventLoop):
    """
    Runs tasks until all of them wait for something that a test decides.

    Only what tasks, futures and timeouts ask of a loop is there; all else raises NotImplementedError.
    """

    def __init__(self) -> None:
        """Start at second 0 with nothing to do."""
        self._now_s = 0.0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[asyncio.TimerHandle] = []
        self._tasks: list[asyncio.Task[Any]] = []

    def run(self, function: Callable[[], object]) -> None:
        """
        Call *function* within the loop, and go on until everything waits.

        Raises:
            AssertionError: a task ended with an error, or they never come to wait.
        """
        self._within(function)
        ended = [task for task in self._tasks if task.done() and not task.cancelled()]
        self._tasks = [task for task in self._tasks if not task.done()]
        for error in filter(None, (task.exception() for task in ended)):
            raise AssertionError(f"a task ended with {error!r}") from error

    def pass_time(self) -> None:
        """Let the next timer go off, if there is one; to be called by what `run` runs."""
        while self._timers:
            timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                self._now_s = timer.when()
                self._ready.append(timer)
                return

    def end(self) -> None:
        """Cancel every task, so that none is left half done to the garbage collector."""
        self._within(lambda: [task.cancel() for task in self._tasks])

    def _within(self, function: Callable[[], object]) -> None:
        asyncio.events._set_running_loop(self)
        try:
            function()
            self._settle()
        finally:
            asyncio.events._set_running_loop(None)

    def _settle(self) -> None:
        for _ in range(TURNS_MAX):
            if not self._ready:
                return
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()
        raise AssertionError("the tasks never come to wait")

    # What asyncio asks of its loop

    def time(self) -> float:
        return self._now_s

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **settings: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, **settings)
        self._tasks.append(task)
        return task

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, timer)
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Ignore it: a cancelled timer is passed over when its time comes."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Raise nothing: what a broken variant leaves behind is judged by the simulation itself."""
