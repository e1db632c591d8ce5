"""Executors under attack: processes that are gone, loads that keep account, and loops that start executors again."""

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import psutil

from tests.support.jobs import ExecutorProcess, Tables, executor

SHORT_LEASE = {"beat_s": 0.5, "lease_s": 4}
TREE_GONE_WITHIN_S = 10.0  # on a machine that is busy; two seconds else
BACKENDS = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'tidegate-job/%%'"


def wait_for(path: Path, lines: int = 1, *, within_s: float = 60.0) -> list[str]:
    """Return the lines of a file once there are so many."""
    until_s = monotonic() + within_s
    while not path.exists() or len(found := path.read_text().splitlines()) < lines:
        assert monotonic() < until_s, f"{path} has no {lines} lines"
        sleep(0.05)
    return found


def wait_gone(pids: list[int], *, within_s: float = TREE_GONE_WITHIN_S) -> None:
    """Wait until none of the processes is alive."""
    until_s = monotonic() + within_s
    while alive := [pid for pid in pids if is_alive(pid)]:
        assert monotonic() < until_s, [psutil.Process(pid).cmdline() for pid in alive]
        sleep(0.05)


def is_alive(pid: int) -> bool:
    """Return True if the process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def zygote_of(process: ExecutorProcess) -> int:
    """Return the pid of an executor's zygote."""
    return psutil.Process(process.pid).children()[0].pid


def children_of(process: ExecutorProcess) -> list[int]:
    """Return the pids of an executor's children."""
    with suppress(psutil.NoSuchProcess, IndexError):
        return [each.pid for each in psutil.Process(zygote_of(process)).children()]
    return []


def check_account(tables: Tables, tally: Path) -> None:
    """Check that each job ended once, and that each run which a task noted has its attempt."""
    tables.check_invariants()
    assert tables.rows("SELECT job_id FROM jobs WHERE finished_at IS NULL OR status IN ('pending', 'running')") == []
    attempts = {str(row["attempt_id"]): row["outcome"] for row in tables.rows("SELECT * FROM job_attempts")}
    noted = [line.split()[1] for line in tally.read_text().splitlines()]
    assert [attempt for attempt, count in Counter(noted).items() if count > 1] == []
    assert [attempt for attempt in noted if attempt not in attempts] == []
    assert {attempt for attempt, outcome in attempts.items() if outcome == "completed"} <= set(noted)
    ends = tables.rows(
        "SELECT job_id FROM job_changes WHERE status IN ('completed', 'failed', 'cancelled') "
        "GROUP BY job_id HAVING count(*) > 1"
    )
    assert ends == []


@contextmanager
def started_again(tables: Tables, folder: Path, **settings: object) -> Iterator[list[int]]:
    """Run an executor, and another one whenever it has ended; yield the list of their exit codes."""
    codes: list[int] = []
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            with executor(tables, folder, ready=False, **settings) as process:  # type: ignore[arg-type]
                while process.process.poll() is None and not over.wait(0.05):
                    pass
                if (code := process.process.poll()) is not None:
                    codes.append(code)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield codes
    finally:
        over.set()
        thread.join()


@contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """Suspend a process and all that it has started."""
    found = [process, *process.children(recursive=True)]
    for each in found:
        with suppress(psutil.NoSuchProcess):
            each.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for each in reversed(found):
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGCONT)
