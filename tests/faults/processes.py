"""Processes under test: those of the stack held down, and further ones of our own beside them."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from deploy.admin import readiness
from deploy.admin.reach import is_ready
from deploy.local import lock, settings_file
from processors.runtime.health import NO_PARTITION
from tests.support.stack import READY_TIMEOUT_S, RunningStack, wait_until

ROOT = Path(__file__).parents[2]
PROGRAMS = {
    "gateway": ("gateway",),
    "persistence": ("processors", "persistence"),
    "fanout": ("processors", "fanout"),
    "evaluation": ("processors", "evaluation"),
    "sink": ("processors", "sink"),
    "maintenance": ("processors", "maintenance"),
    "events": ("processors", "events"),
    "processing": ("processors", "processing"),
    "jobs-intake": ("processors", "jobs-intake"),
    "executor": ("processors", "executor"),
    "documents-intake": ("processors", "documents-intake"),
    "documents-embed": ("processors", "documents-embed"),
    "documents-store": ("processors", "documents-store"),
    "archive": ("processors", "archive"),
}
END_S = 30.0
LOG_SHOWN_CHARACTERS = 5000
LOOPBACK = "127.0.0.1"


class OwnProcess:
    """One more process of a service, which nothing starts again."""

    def __init__(self, process: "subprocess.Popen[bytes]", *, log: Path, environ: Mapping[str, str]) -> None:
        """Wrap *process*, which was told *environ*."""
        self.pid = process.pid
        self._process = process
        self._log = log
        self._management = f"http://{environ['TIDEGATE_MANAGEMENT_HOST']}:{environ['TIDEGATE_MANAGEMENT_PORT']}"
        # Of a gateway, and of a fanout.
        self.url = f"http://{environ['TIDEGATE_GATEWAY_HOST']}:{environ['TIDEGATE_GATEWAY_PORT']}"
        self.websocket = f"ws://{LOOPBACK}:{environ['TIDEGATE_FANOUT_PORT']}"

    @property
    def log(self) -> str:
        """Return what it has logged."""
        return self._log.read_text(errors="replace")

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of its samples called *name* with *labels*."""
        return metric(self._management, name, **labels)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def is_running(self) -> bool:
        """Return whether it has not ended yet."""
        return self._process.poll() is None

    def is_ready(self) -> bool:
        """Return whether it can do its work now."""
        return is_ready(self._management)

    def wait_ready(self) -> None:
        """Wait until it serves, or has joined its group."""

        def ready() -> bool:
            assert self.is_running(), f"ended with {self._process.returncode}:\n{self.log[-3000:]}"
            return self.is_ready() or readiness.ask(self._management).reasons == (NO_PARTITION,)

        wait_until(ready, timeout_s=READY_TIMEOUT_S, what="a process of the test to be ready")

    def wait_end(self, timeout_s: float = READY_TIMEOUT_S) -> int:
        """Wait until it ends; return its exit code."""
        return self._process.wait(timeout_s)


@contextmanager
def own_process(
    stack: RunningStack,
    folder: Path,
    service: str = "persistence",
    *arguments: str,
    variant: str | None = None,
    environ: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
    settings_of: str | None = None,
) -> Iterator[OwnProcess]:
    """
    Run *service* once more, with the stack's settings under *environ*, or a *variant* of it; see `variants`.

    *within* is a command that runs the one behind it, somewhere else. The settings are those of the service, or
    *settings_of* another name of it.
    """
    settings = settings_file.read(stack.folder)
    assert settings
    told = {
        "TIDEGATE_MANAGEMENT_HOST": LOOPBACK,
        "TIDEGATE_GATEWAY_HOST": LOOPBACK,
        # What the stack does not run has no business in Postgres.
        **(settings.get(settings_of or service) or settings["fanout"]),
        "TIDEGATE_MANAGEMENT_PORT": str(free_port()),
        "TIDEGATE_GATEWAY_PORT": str(free_port()),
        "TIDEGATE_FANOUT_PORT": str(free_port()),
        **(environ or {}),
    }
    module = ("tests.faults.variants", variant) if variant else ()
    log = folder / f"{service}-{told['TIDEGATE_MANAGEMENT_PORT']}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*within, sys.executable, "-m", *module, *PROGRAMS[service], *arguments],
            cwd=ROOT,
            env={**os.environ, **told},
            stdout=out,
            stderr=out,
        )
    own = OwnProcess(process, log=log, environ=told)
    try:
        yield own
    except BaseException:
        sys.stdout.write(own.log[-LOG_SHOWN_CHARACTERS:])  # beside what the test says, whose cause it often is
        raise
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def metric(management: str, name: str, **labels: str) -> float:
    """Return the sum of a process's samples called *name* with *labels*."""
    families = text_string_to_metric_families(page(management, "/metrics"))
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def page(management: str, path: str) -> str:
    """Return a page of a process's management port, whose URL that is."""
    connection = HTTPConnection(urlsplit(management).netloc, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextmanager
def held_down(stack: RunningStack, name: str, number: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """End a process of the stack and keep it down: the supervisor, which would start it again, rests meanwhile."""
    supervisor = lock.supervisor(stack.folder)
    assert supervisor
    pid = stack.process(name).pid
    with paused([supervisor]):
        os.kill(pid, number)
        wait_until(lambda: not is_running(pid), timeout_s=END_S, what=f"{name} to end")
        yield
    stack.wait_restarted(name, pid)


@contextmanager
def paused(pids: list[int]) -> Iterator[None]:
    """Stop processes with SIGSTOP, and let them go on."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def for_a_while(duration_s: float) -> None:
    """Let a fault last: its length is what is tested."""
    Event().wait(duration_s)


def family(pid: int) -> list[int]:
    """Return a process and its children, such as Postgres and its sessions."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [pid, *map(int, listed.split())]


def is_running(pid: int) -> bool:
    """Return whether the process runs; one that ended and waits to be noticed does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def resident_mib(pid: int) -> int:
    """Return how much memory a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") // 1024**2


def peak_mib(pid: int) -> int:
    """Return how much memory a process held at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def open_files(pid: int) -> int:
    """Return how many descriptors a process holds, of files and connections."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
