"""One program as a running process: started, watched, started again after it died, stopped."""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, Signals
from time import monotonic

from deploy.errors import CommandFailed
from deploy.local.logs import cause, open_log
from deploy.local.program import Program

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 10.0
SETTLED_AFTER_S = 30.0  # a process that lived this long starts again without the backoff of earlier deaths
READY_POLL_S = 0.1
TETHER = Path(__file__).with_name("tether.py")


class Child:
    """A program under supervision. `pid` is that of its current process, the last one's while it is down."""

    def __init__(
        self,
        program: Program,
        *,
        log: Path,
        keep_open: int,
        say: Callable[[str], None],
        on_start: Callable[[], None],
    ) -> None:
        """
        Describe the child; `start` starts it.

        *keep_open* is a descriptor that the process inherits, *on_start* is called for each new process.
        """
        self.program = program
        self.log = log
        self.pid = 0
        self._keep_open = keep_open
        self._say = say
        self._on_start = on_start
        self._log_start_bytes = 0  # where the log of its current process begins
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self, *, timeout_s: float) -> None:
        """
        Start the process and wait until it is ready; from then on it is kept alive.

        Raises:
            CommandFailed: it ended or was not ready in time; says why, by its last log line, and where the log is.
        """
        process = await self._spawn()
        deadline_s = monotonic() + timeout_s
        while not await asyncio.to_thread(self.program.is_ready):
            if process.returncode is not None:
                raise CommandFailed(f"{self.program.name} {_ending(process.returncode)} at its start{self._evidence()}")
            if monotonic() > deadline_s:
                raise CommandFailed(f"{self.program.name} was not ready after {timeout_s:.0f} s{self._evidence()}")
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), READY_POLL_S)
        self._keeper = asyncio.create_task(self._keep(process))

    async def stop(self) -> None:
        """End the process: politely, and after its time is up for certain."""
        if self._keeper:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(self.program.stop_signal)
        try:
            await asyncio.wait_for(self._process.wait(), self.program.stop_timeout_s)
        except TimeoutError:
            self._say(f"{self.program.name} did not stop within {self.program.stop_timeout_s:.0f} s and is killed")
            with suppress(ProcessLookupError):  # it has just ended after all
                os.killpg(self._process.pid, SIGKILL)
            await self._process.wait()

    async def kept(self) -> None:
        """Wait as long as the process is looked after: for ever, unless starting it again is impossible."""
        assert self._keeper, "started"
        await self._keeper

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        backoff_s, started_s = BACKOFF_FIRST_S, monotonic()
        while True:
            returncode = await process.wait()
            if monotonic() - started_s >= SETTLED_AFTER_S:
                backoff_s = BACKOFF_FIRST_S
            why = self._evidence() if returncode > 0 else ""
            self._say(f"{self.program.name} {_ending(returncode)} and starts again in {backoff_s:g} s{why}")
            await asyncio.sleep(backoff_s)
            backoff_s, started_s = min(2 * backoff_s, BACKOFF_MAX_S), monotonic()
            process = await self._spawn()

    async def _spawn(self) -> asyncio.subprocess.Process:
        program = self.program
        account = f"{program.account.uid}:{program.account.gid}" if program.account else "-"
        tether = (sys.executable, "-I", "-S", TETHER, str(os.getpid()), str(int(program.death_signal)), account)
        with open_log(self.log) as log:
            self._log_start_bytes = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *tether,
                *program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=program.folder,
                env={**os.environ, **program.environment},
                start_new_session=True,
                pass_fds=(self._keep_open,),
            )
        self.pid = self._process.pid
        self._on_start()
        return self._process

    def _evidence(self) -> str:
        return f": {cause(self.log, since_bytes=self._log_start_bytes)} (log: {self.log})"


def _ending(returncode: int) -> str:
    if returncode < 0:
        return f"was ended by {Signals(-returncode).name}"
    return f"exited with code {returncode}"
