"""A stack for tests: the embedded one, started and stopped through the command that users call."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import monotonic

from deploy.admin.reach import is_ready, kafka_answers, postgres_answers
from deploy.local import stack_file
from deploy.local.settings_file import kafka_of
from deploy.local.stack_file import RunningProcess, Stack
from schemas.kafka.connection import KafkaSettings

COMMAND_TIMEOUT_S = 240.0
READY_TIMEOUT_S = 90.0
POLL_S = 0.05


class TidegateFailed(AssertionError):
    """The command did not end with 0; the text has what it printed."""


class RunningStack:
    """One stack in one folder. Addresses are read again each time, because pids change."""

    def __init__(self, folder: Path) -> None:
        """Wrap the stack that runs in *folder*."""
        self.folder = folder

    @property
    def addresses(self) -> Stack:
        """`stack.json` as it is now."""
        found = stack_file.read(self.folder)
        assert found, f"no stack is ready in {self.folder}"
        return found

    @property
    def kafka(self) -> KafkaSettings:
        """Return how its processes connect to Kafka."""
        return kafka_of(self.addresses, self.folder)

    def process(self, name: str) -> RunningProcess:
        """Return the process called *name*."""
        return next(process for process in self.addresses.processes if process.name == name)

    def log(self, name: str) -> str:
        """Return what the process called *name* has logged."""
        return Path(self.process(name).log).read_text(errors="replace")

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to the process called *name*; return the pid that it had."""
        pid = self.process(name).pid
        os.kill(pid, number)
        return pid

    def wait_restarted(self, name: str, old_pid: int, *, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until the process called *name* runs under a new pid and is ready."""
        wait_until(lambda: self.process(name).pid != old_pid, timeout_s=timeout_s, what=f"{name} to be started again")
        self.wait_ready(name, timeout_s=timeout_s)

    def wait_ready(self, name: str, *, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until the process called *name* says that it can do its work."""
        wait_until(lambda: self.is_ready(name), timeout_s=timeout_s, what=f"{name} to be ready")

    def is_ready(self, name: str) -> bool:
        """Return whether the process called *name* can do its work now."""
        stack = self.addresses
        if name == "kafka":
            return kafka_answers(self.kafka)
        if name == "postgres":
            return postgres_answers(stack.postgres)
        return is_ready(stack.management[name])

    def command(self, *arguments: str, environ: Mapping[str, str] = os.environ) -> str:
        """Run `tidegate` on this stack; return what it printed."""
        return tidegate(*arguments, "--dir", str(self.folder), environ=environ)

    def attempt(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `tidegate` on this stack, whatever its exit code."""
        return _run(*arguments, "--dir", str(self.folder), environ=os.environ)


def tidegate(*arguments: str, environ: Mapping[str, str] = os.environ) -> str:
    """
    Run the `tidegate` command; return what it printed.

    Raises:
        TidegateFailed: it did not end with 0.
    """
    done = _run(*arguments, environ=environ)
    if done.returncode != 0:
        raise TidegateFailed(f"tidegate {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def _run(*arguments: str, environ: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli.app", *arguments],
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        env=dict(environ),
        check=False,
    )


@contextmanager
def running(folder: Path, *arguments: str, environ: Mapping[str, str] = os.environ) -> Iterator[RunningStack]:
    """Start a stack in *folder*, and stop it; its data stays."""
    try:
        tidegate("up", "--detach", "--dir", str(folder), *(arguments or ("--ports", "auto")), environ=environ)
        yield RunningStack(folder)
    finally:
        tidegate("down", "--dir", str(folder))


@contextmanager
def throwaway(folder: Path) -> Iterator[RunningStack]:
    """Start a stack in *folder*; at the end nothing of it is left."""
    try:
        with running(folder) as started:
            yield started
    finally:
        tidegate("down", "--purge", "--dir", str(folder))


def wait_until(is_so: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    """Ask again and again until *is_so*; the test fails after *timeout_s*."""
    deadline_s = monotonic() + timeout_s
    pause = Event()
    while not is_so():
        assert monotonic() < deadline_s, f"waited {timeout_s:.0f} s for {what}"
        pause.wait(POLL_S)
