"""Loops that run beside the group of a process: each goes on after what passes, and ends the process at a bug."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from processors.runtime.backoff import delay_s
from processors.runtime.errors import Transient
from processors.runtime.worker import EXIT_UNSETTLED, end_process

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """Work that goes on while there is some, and looks again after a pause."""

    name: str
    work: Callable[[], Awaitable[bool]]  # returns True if there is more to do at once; raises Transient
    pause_s: float


@asynccontextmanager
async def running(loops: Sequence[Loop]) -> AsyncIterator[None]:
    """Run *loops* until the context ends."""
    tasks = [asyncio.create_task(_repeat(loop), name=loop.name) for loop in loops]
    for task in tasks:
        task.add_done_callback(_check)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _repeat(loop: Loop) -> None:
    failures = 0
    while True:
        pause_s = loop.pause_s
        try:
            if await loop.work():
                pause_s = 0.0
            if failures:
                log.warning("recovered", work=loop.name, attempts=failures + 1)
            failures = 0
        except Transient as reason:
            failures += 1
            if failures == 1:
                log.warning("failed, retrying", work=loop.name, error=str(reason))
            pause_s = max(pause_s, delay_s(failures, jitter=random.random()))  # noqa: S311  # spreads load
        await asyncio.sleep(pause_s)


def _check(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("cannot go on", work=task.get_name(), error=repr(error), exc_info=error)
        end_process(EXIT_UNSETTLED)
