"""
The process: each duty again and again, until SIGTERM.

It consumes nothing, so it is no worker of a group. A duty that fails is tried again soon, and `/readyz` says why; a
pass that is told to stop is cut off, and what it had not committed is as if it had not begun.
"""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import structlog
from aiohttp import web

from processors.maintenance.store import PassRuns
from processors.runtime.batch import Partition
from processors.runtime.errors import Transient
from processors.runtime.health import Health
from processors.runtime.management import management_runner
from schemas.process import telemetry
from schemas.process.settings import ManagementSettings
from schemas.runs.telemetry import MAINTENANCE_DONE, MAINTENANCE_DURATION

EXIT_UNSETTLED = 70  # EX_SOFTWARE of sysexits.h
FIRST_WITHIN_S = 5.0  # so that processes that start together do not work together
AGAIN_S = 60.0  # after a failure, at most
JITTER = 0.1  # a pause is up to this part longer
STOP_S = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """Something that is done periodically."""

    name: str
    period_s: float
    work: Callable[[], Awaitable[None]]  # raises Transient where it is to be tried again


class Duties:
    """Runs duties side by side."""

    def __init__(self, duties: Sequence[Duty], *, health: Health, instruments: telemetry.Telemetry) -> None:
        """Prepare; `run` begins."""
        self._duties = duties
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
        self._health.joins()
        stopped = asyncio.create_task(stop.wait(), name="stop")
        tasks = {stopped, *(asyncio.create_task(self._repeat(duty), name=duty.name) for duty in self._duties)}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=STOP_S)
            await runner.cleanup()
        for task in done - {stopped}:
            error = task.exception()
            log.critical("maintenance cannot go on", duty=task.get_name(), error=repr(error), exc_info=error)
        return 0 if stopped in done else EXIT_UNSETTLED

    async def _repeat(self, duty: Duty) -> None:
        # The health page speaks of lanes: a duty is one.
        lane = Partition(duty.name, 0)
        await asyncio.sleep(random.random() * min(duty.period_s, FIRST_WITHIN_S))  # noqa: S311  # spreads load
        failures = 0
        while True:
            why = await self._attempt(duty)
            if why is None:
                if failures:
                    log.warning("a duty is done again", duty=duty.name, attempts=failures + 1)
                failures, pause_s = 0, duty.period_s
                self._health.goes_on(lane)
            else:
                failures, pause_s = failures + 1, min(duty.period_s, AGAIN_S)
                if failures == 1:
                    log.warning("a duty waits", duty=duty.name, reason=why)
                self._health.waits(lane, why)
            await asyncio.sleep(pause_s * (1 + JITTER * random.random()))  # noqa: S311  # spreads load

    async def _attempt(self, duty: Duty) -> str | None:
        """Why the duty could not be done; None if it was, or another process does it."""
        began_s, outcome = monotonic(), "failed"
        try:
            await duty.work()
            outcome = "done"
        except PassRuns:
            outcome = "elsewhere"
        except Transient as reason:
            return str(reason)
        finally:
            self._instruments[MAINTENANCE_DURATION].labels(duty.name, outcome).observe(monotonic() - began_s)
        if outcome == "done":
            self._instruments[MAINTENANCE_DONE].labels(duty.name).set_to_current_time()
        return None
