"""
A process without a consumer group: periodic tasks, until SIGTERM.

A task that fails is tried again soon, and `/readyz` says why. One that is under way at SIGTERM is cancelled, and what
it had not committed is as if it had not begun.
"""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import structlog
from aiohttp import web

from processors.runtime.errors import Transient
from processors.runtime.health import Health
from processors.runtime.management import management_runner
from schemas.process import telemetry
from schemas.process.settings import ManagementSettings
from schemas.process.telemetry import MAINTENANCE_DONE, MAINTENANCE_DURATION

EXIT_UNSETTLED = 70  # EX_SOFTWARE of sysexits.h
FIRST_WITHIN_S = 5.0  # so that processes that start together do not work together
RETRY_DELAY_S = 60.0  # after a failure, at most
JITTER = 0.1  # a pause is up to this part longer
STOP_S = 5.0

log = structlog.get_logger()


class RunsElsewhere(Transient):
    """Another process does this work now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicTask:
    """Work that is done again and again."""

    name: str
    period_s: float
    work: Callable[[], Awaitable[None]]  # raises Transient where it is to be tried again


class PeriodicTasks:
    """A runner of tasks side by side."""

    def __init__(self, tasks: Sequence[PeriodicTask], *, health: Health, instruments: telemetry.Telemetry) -> None:
        """Prepare; `run` begins."""
        self._tasks = tasks
        self._health = health
        self._instruments = instruments

    async def run(self, management: ManagementSettings) -> int:
        """Work until SIGTERM or SIGINT; return the exit code."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        runner = management_runner(self._health, self._instruments)
        await runner.setup()
        await web.TCPSite(runner, management.host, management.port).start()
        self._health.mark_assigned()
        stopped = asyncio.create_task(stop.wait(), name="stop")
        tasks = {stopped, *(asyncio.create_task(self._repeat(each), name=each.name) for each in self._tasks)}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=STOP_S)
            await runner.cleanup()
        for task in done - {stopped}:
            error = task.exception()
            log.critical(
                "a periodic task raised an unexpected error", task=task.get_name(), error=repr(error), exc_info=error
            )
        return 0 if stopped in done else EXIT_UNSETTLED

    async def _repeat(self, task: PeriodicTask) -> None:
        await asyncio.sleep(random.random() * min(task.period_s, FIRST_WITHIN_S))  # noqa: S311  # spreads load
        failures = 0
        while True:
            why = await self._attempt(task)
            if why is None:
                if failures:
                    log.warning("periodic task recovered", task=task.name, attempts=failures + 1)
                failures, pause_s = 0, task.period_s
                self._health.mark_resumed(task.name)
            else:
                failures, pause_s = failures + 1, min(task.period_s, RETRY_DELAY_S)
                if failures == 1:
                    log.warning("periodic task failed, retrying", task=task.name, error=why)
                self._health.mark_waiting(task.name, why)
            await asyncio.sleep(pause_s * (1 + JITTER * random.random()))  # noqa: S311  # spreads load

    async def _attempt(self, task: PeriodicTask) -> str | None:
        """Return why the task could not be done; None if it was, or another process does it."""
        began_s, outcome = monotonic(), "failed"
        try:
            await task.work()
            outcome = "done"
        except RunsElsewhere:
            outcome = "elsewhere"
        except Transient as reason:
            return str(reason)
        finally:
            self._instruments[MAINTENANCE_DURATION].labels(task.name, outcome).observe(monotonic() - began_s)
        if outcome == "done":
            self._instruments[MAINTENANCE_DONE].labels(task.name).set_to_current_time()
        return None
