"""
Workers of one's own for the stages of documents: `async def worker(item: dict) -> dict`.

A stage hands a worker what it has of a document, and takes what the worker adds: `chunks`, `embeddings`, or nothing at
all. A worker is named as `module:function`, or by an entry point. It runs on a thread with an event loop of its own,
which it may block: what it does there holds up nobody but itself.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from schemas.process.settings import SettingsInvalid

DETAIL_CHARACTERS_MAX = 500
STOP_S = 2.0

Worker = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class WorkerFailed(Exception):
    """A worker raised an error, was too slow, or answered what is not valid. The same item may fail again."""


class WorkerThread:
    """A worker and the thread that it runs on; an async context manager."""

    def __init__(self, name: str, worker: Worker, *, deadline_s: float) -> None:
        """Name it for messages; an answer must come within *deadline_s*."""
        self.name = name
        self._worker = worker
        self._deadline_s = deadline_s
        self._loop = asyncio.new_event_loop()
        # A daemon: a worker that never returns must not keep the process from its end.
        self._thread = threading.Thread(target=self._run, name=f"worker {name}", daemon=True)
        self._thread.start()

    async def call(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return the worker's answer to a copy of *item*.

        Raises:
            WorkerFailed: it raised, was too slow, or returned no dictionary.
        """
        answer: Future[Any] = asyncio.run_coroutine_threadsafe(self._call(dict(item)), self._loop)
        try:
            async with asyncio.timeout(self._deadline_s):
                found = await asyncio.wrap_future(answer)
        except TimeoutError as error:
            raise WorkerFailed(f"worker {self.name} did not answer within {self._deadline_s:g} s") from error
        except asyncio.CancelledError as error:
            if (caller := asyncio.current_task()) is not None and caller.cancelling():
                raise
            raise WorkerFailed(f"worker {self.name} cancelled itself") from error
        if not isinstance(found, dict):
            raise WorkerFailed(f"worker {self.name} returned {type(found).__name__}, not a dictionary")
        return found

    async def close(self) -> None:
        """End the thread, unless the worker holds it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, 2 * STOP_S)

    async def _call(self, item: dict[str, Any]) -> Any:
        try:
            return await self._worker(item)
        except Exception as error:  # whatever a user's function raises is one failed item
            detail = f"{type(error).__name__}: {error}"[:DETAIL_CHARACTERS_MAX]
            raise WorkerFailed(f"worker {self.name} raised {detail}") from error

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left, timeout=STOP_S))
        self._loop.close()


def load_worker(name: str, *, group: str, deadline_s: float) -> WorkerThread:
    """
    Return the worker of that name: an entry point of *group*, or `module:function`.

    Raises:
        SettingsInvalid: there is none, or it cannot be imported.
    """
    entry = next((each for each in entry_points(group=group) if each.name == name), None)
    try:
        found = _imported(name) if entry is None else entry.load()
    except SettingsInvalid:
        raise
    except Exception as error:  # whatever a user's module does while it is imported
        raise SettingsInvalid(f"worker {name} cannot be imported: {error!r}") from error
    if not callable(found):
        raise SettingsInvalid(f"worker {name} is no function: write `async def worker(item: dict) -> dict`")
    return WorkerThread(name, found, deadline_s=deadline_s)


def _imported(name: str) -> Any:
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise SettingsInvalid(f"there is no worker {name!r}: name an entry point, or module:function")
    return getattr(import_module(module), attribute)
