"""An executor: how it is put together."""

import argparse
import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from shutil import rmtree
from uuid import uuid4

import structlog
from aiohttp import web

from processors.jobs.executor.claims import Claims
from processors.jobs.executor.config import ExecutorSettings
from processors.jobs.executor.endings import EndingWriter
from processors.jobs.executor.executor import Executor, ExecutorBounds
from processors.jobs.executor.housekeeping import Housekeeping
from processors.jobs.executor.lease import Lease
from processors.jobs.executor.listening import listen
from processors.jobs.executor.reports import Reports
from processors.jobs.executor.zygotes import Zygotes
from processors.postgres.writes import PostgresWrites
from processors.runtime.health import Health
from processors.runtime.management import management_runner
from processors.runtime.process import Process
from processors.runtime.watchdog import Watchdog
from processors.runtime.worker import BEAT_S, EXIT_UNSETTLED, STUCK_S, end_process
from schemas.jobs.builtin import BUILTIN_TYPES
from schemas.jobs.rules import queue_fault
from schemas.jobs.telemetry import CHILDREN_ENDED, JOBS_LOST, OF_EXECUTORS, STALE_WRITES
from schemas.jobs.types import QUEUES, load_types
from schemas.process import settings, telemetry
from schemas.process.settings import SettingsInvalid

APPLICATION = "tidegate-executor"
CONNECTIONS_MAX = 8

log = structlog.get_logger()


async def run(environ: Mapping[str, str], options: argparse.Namespace) -> int:
    """Run jobs until the process is stopped; return its exit code."""
    config = settings.load(ExecutorSettings, environ)
    queues = list(dict.fromkeys(options.queue or QUEUES))
    if wrong := [name for name in queues if queue_fault(name)]:
        raise SettingsInvalid(f"--queue {wrong[0]!r} must be {queue_fault(wrong[0])}")
    types = load_types(config.types, builtin=BUILTIN_TYPES)
    executor_id = uuid4()
    folder = Path(tempfile.mkdtemp(prefix="tidegate-executor-"))
    instruments, health = telemetry.Telemetry(OF_EXECUTORS), Health()
    # First of all, while this process has one thread and no connection: what is forked has no more either.
    zygotes = Zygotes(
        types,
        dsn=config.postgres,
        ended=lambda why: instruments[CHILDREN_ENDED].labels(why).inc(),
    )
    log.info(
        "starting", processor="executor", executor_id=str(executor_id), queues=queues, **settings.effective(config)
    )
    stop, hurry = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled)
    try:
        async with PostgresWrites(config.postgres, connections_max=CONNECTIONS_MAX, application=APPLICATION) as writes:
            await writes.check_version()
            housekeeping = Housekeeping(
                writes,
                lease_s=config.lease.lease_s,
                results_keep_s=config.results_keep_s,
                lost=instruments[JOBS_LOST].inc,
            )
            executor = Executor(
                types=types,
                queues=queues,
                bounds=ExecutorBounds(
                    slots=config.slots,
                    drain_s=config.drain_s,
                    beat_s=config.lease.beat_s,
                    child_runs_max=config.child_runs_max,
                    child_bytes_max=config.child_bytes_max,
                ),
                folder=folder,
                writes=writes,
                zygotes=zygotes,
                claims=Claims(writes, executor_id=executor_id, queues=queues, types=types),
                lease=Lease(
                    writes,
                    fence_s=config.lease.fence_s,
                    executor_id=executor_id,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    version=version("tidegate"),
                    queues=queues,
                    types=sorted(types),
                    slots=config.slots,
                ),
                endings=EndingWriter(
                    writes,
                    executor_id=executor_id,
                    stale=instruments[STALE_WRITES].inc,
                    failures=lambda _reason: housekeeping.note_failure(),
                ),
                housekeeping=housekeeping,
                reports=Reports(writes),
                health=health,
                instruments=instruments,
            )
            runner = management_runner(health, instruments)
            await runner.setup()
            await web.TCPSite(runner, config.management.host, config.management.port).start()
            watchdog = Watchdog(STUCK_S, fatal=_end_stuck)
            beating = asyncio.create_task(_beat(watchdog))
            listening = asyncio.create_task(listen(config.postgres, executor.wake, application=APPLICATION))
            watchdog.start()
            try:
                is_settled = await executor.run(stop, hurry)
            except Exception as error:
                log.critical("cannot go on; its jobs go back when its lease ends", error=repr(error), exc_info=error)
                is_settled = False
            finally:
                watchdog.stop()
                for task in (beating, listening):
                    task.cancel()
                await runner.cleanup()
    finally:
        await zygotes.close()
        await asyncio.to_thread(rmtree, folder, ignore_errors=True)
    log.info("stopped", processor="executor", is_settled=is_settled)
    return 0 if is_settled else EXIT_UNSETTLED


async def _beat(watchdog: Watchdog) -> None:
    while True:
        watchdog.beat("loop")
        await asyncio.sleep(BEAT_S)


def _end_stuck(beat: str) -> None:
    log.critical("stuck; its jobs go back when its lease ends", what=beat, waited_s=STUCK_S)
    end_process(EXIT_UNSETTLED)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the queues to serve."""
    parser.add_argument("--queue", nargs="+", metavar="NAME", help=f"queues to serve; without it: {', '.join(QUEUES)}")


PROCESS = Process(run=run, add_options=add_options)
