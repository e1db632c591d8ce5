"""
Jobs under faults: each accepted one ends once, and every run of it has an attempt.

Submissions and runs are noted outside: what was accepted, and what was run, by a line that each run appends to a file.
"""

import os
import signal
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from secrets import token_hex
from time import sleep
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from processors.runtime.failpoints import EXIT_KILLED, Failpoint
from schemas.jobs.codec import CHANGE_CODEC
from schemas.jobs.states import JobStatus
from schemas.jobs.topics import INTAKE, JOB_EVENTS
from tests.faults.processes import own_process
from tests.support.api import ApiClient
from tests.support.jobs import ROOT, TYPES
from tests.support.lag import wait_until_handled
from tests.support.log import read_topic
from tests.support.stack import RunningStack, running, tidegate, wait_until

SUBMITTERS = 4
ENDED_S = 180.0
FINISHED = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)
SETTINGS = {
    "TIDEGATE_JOB_TYPES": TYPES,
    "TIDEGATE_EXECUTOR_BEAT_S": "1",
    "TIDEGATE_EXECUTOR_LEASE_S": "6",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Yield a stack whose executors know the tasks of tests, and whose leases are short."""
    folder = tmp_path_factory.mktemp("stack")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    without = [part for name in ("evaluation", "fanout", "maintenance", "events") for part in ("--without", name)]
    try:
        with running(folder, *without, environ={**os.environ, **SETTINGS, "PYTHONPATH": path}) as started:
            yield started
    finally:
        tidegate("down", "--purge", "--dir", str(folder))


class Ledger:
    """The jobs that were accepted, and the file in which each run appends a line."""

    def __init__(self, folder: Path) -> None:
        """Write the runs in *folder*."""
        self.accepted: list[str] = []
        self.runs = folder / "runs"
        self.runs.touch()

    def wait_for(self, more: int) -> None:
        """Wait until so many more jobs were accepted."""
        wanted = len(self.accepted) + more
        wait_until(lambda: len(self.accepted) >= wanted, timeout_s=120, what=f"{more} more jobs to be accepted")

    def lines(self) -> set[tuple[str, str]]:
        """Return the runs: job and attempt."""
        return {(line.split()[0], line.split()[1]) for line in self.runs.read_text().splitlines()}


@contextmanager
def submitting(stack: RunningStack, folder: Path, *, seconds: float = 0.02) -> Iterator[Ledger]:
    """Submit jobs that take *seconds* each, the same again until it is accepted; one executor can keep up with them."""
    ledger, stopped = Ledger(folder), threading.Event()
    body = {"type": "tally", "parameters": {"path": str(ledger.runs), "seconds": seconds}, "max_attempts": 100}

    def submit() -> None:
        client = ApiClient(stack)
        while not stopped.is_set():
            key = token_hex(8)
            while True:
                try:
                    status, answer = client.ask("POST", "/api/tasks", body | {"dedupe_key": key}, Idempotency_Key=key)
                except (OSError, HTTPException):
                    status, answer = 0, None
                if status in (200, 202):
                    ledger.accepted.append(answer["task_id"])
                    break
                assert status in (0, 429, 503), answer
                sleep(0.1)
            sleep(2 * seconds)

    threads = [threading.Thread(target=submit) for _ in range(SUBMITTERS)]
    for thread in threads:
        thread.start()
    try:
        yield ledger
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def check(stack: RunningStack, ledger: Ledger, *, completed: bool = True) -> None:
    """Check that each accepted job ended once, and that no run is without an attempt."""
    wait_until_handled(stack, INTAKE)
    ids = [UUID(each) for each in ledger.accepted]
    assert len(set(ids)) == len(ids)
    with psycopg.connect(stack.addresses.postgres, autocommit=True, row_factory=dict_row) as session:

        def unfinished() -> int:
            row = session.execute(
                "SELECT count(*) FROM jobs WHERE job_id = ANY(%s) AND status = ANY(%s)", [ids, list(FINISHED)]
            ).fetchone()
            return len(ids) - (row or {"count": 0})["count"]

        wait_until(lambda: unfinished() == 0, timeout_s=ENDED_S, what="every job to end")
        jobs = {row["job_id"]: row for row in session.execute("SELECT * FROM jobs WHERE job_id = ANY(%s)", [ids])}
        attempts = session.execute("SELECT * FROM job_attempts WHERE job_id = ANY(%s)", [ids]).fetchall()
        assert session.execute("SELECT 1 FROM job_dedupe_keys WHERE job_id = ANY(%s)", [ids]).fetchall() == []
        wait_until(
            lambda: session.execute("SELECT 1 FROM job_changes LIMIT 1").fetchone() is None,
            timeout_s=30,
            what="every change to be published",
        )
    if completed:
        assert {row["status"] for row in jobs.values()} == {"completed"}
    of_job: defaultdict[UUID, list[str]] = defaultdict(list)
    for attempt in attempts:
        of_job[attempt["job_id"]].append(attempt["outcome"])
    for job_id, row in jobs.items():
        assert len(of_job[job_id]) == row["runs"], row
        assert of_job[job_id].count("completed") == (row["status"] == "completed"), row
    known = {(str(attempt["job_id"]), str(attempt["attempt_id"])) for attempt in attempts}
    assert ledger.lines() <= known
    check_changes(stack, jobs)


def check_changes(stack: RunningStack, jobs: dict[UUID, dict[str, object]]) -> None:
    """Check that jobs.events has one end of each job, which is its newest change."""
    ends: Counter[UUID] = Counter()
    newest: dict[UUID, tuple[int, JobStatus]] = {}
    seen: set[tuple[UUID, int]] = set()
    for record in read_topic(stack, JOB_EVENTS):
        changed = CHANGE_CODEC.decode(record.value())
        job_id = UUID(changed.job_id)
        if job_id not in jobs or (job_id, changed.version) in seen:
            continue
        seen.add((job_id, changed.version))
        ends[job_id] += changed.status in FINISHED
        newest[job_id] = max(newest.get(job_id, (0, JobStatus.PENDING)), (changed.version, changed.status))
    assert set(ends.values()) == {1}
    assert newest == {job_id: (row["version"], row["status"]) for job_id, row in jobs.items()}


def children_of(stack: RunningStack) -> list[int]:
    """Return the child processes of the executor that run tasks."""
    return [child for zygote in _children(stack.process("executor").pid) for child in _children(zygote)]


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(each) for each in listed.read_text().split()]
    return found


def kill_child(stack: RunningStack) -> None:
    """Kill a child that runs a task."""
    wait_until(lambda: bool(children_of(stack)), timeout_s=30, what="a child")
    os.kill(children_of(stack)[0], signal.SIGKILL)


def kill_zygote(stack: RunningStack) -> None:
    """Kill the zygote, and with it every child."""
    wait_until(lambda: bool(children_of(stack)), timeout_s=30, what="a zygote with a child")
    os.kill(_children(stack.process("executor").pid)[0], signal.SIGKILL)


@pytest.mark.parametrize("kill", [kill_child, kill_zygote])
def test_killed_children_cost_no_job(stack: RunningStack, tmp_path: Path, kill: Callable[[RunningStack], None]) -> None:
    with submitting(stack, tmp_path) as ledger:
        for _ in range(5):
            ledger.wait_for(20)
            kill(stack)
    check(stack, ledger)


@pytest.mark.parametrize("names", [("gateway", "jobs-intake"), ("executor",), ("kafka", "postgres")], ids="-".join)
def test_a_killed_process_costs_no_job(stack: RunningStack, tmp_path: Path, names: tuple[str, ...]) -> None:
    with submitting(stack, tmp_path) as ledger:
        for name in names:
            ledger.wait_for(50)
            pid = stack.kill(name)
            stack.wait_restarted(name, pid)
            ledger.wait_for(50)
    check(stack, ledger)


def test_processes_that_die_at_each_step_cost_no_job(stack: RunningStack, tmp_path: Path) -> None:
    steps = [
        *(("jobs-intake", point) for point in (Failpoint.BEFORE_COMMIT, Failpoint.AFTER_COMMIT_BEFORE_OFFSET)),
        *(("executor", point) for point in (Failpoint.AFTER_CLAIM, Failpoint.BEFORE_FINISH, Failpoint.AFTER_FINISH)),
    ]
    with submitting(stack, tmp_path) as ledger:
        for name, point in steps:
            with own_process(stack, tmp_path, name, environ={**SETTINGS, "TIDEGATE_FAILPOINT": f"{point}:3"}) as own:
                assert own.wait_end() == EXIT_KILLED, own.log
    check(stack, ledger)


@pytest.mark.soak
def test_postgres_away_for_a_minute_costs_no_job(stack: RunningStack, tmp_path: Path) -> None:
    with submitting(stack, tmp_path) as ledger:
        ledger.wait_for(50)
        pid = stack.process("postgres").pid
        os.kill(pid, signal.SIGSTOP)
        sleep(60)
        os.kill(pid, signal.SIGCONT)
        ledger.wait_for(100)
    check(stack, ledger)


@pytest.mark.soak
def test_an_executor_that_stands_still_past_its_lease_costs_no_job(stack: RunningStack, tmp_path: Path) -> None:
    with (
        submitting(stack, tmp_path, seconds=0.5) as ledger,
        own_process(stack, tmp_path, "executor", environ=SETTINGS) as second,
    ):
        second.wait_ready()
        for _ in range(3):
            ledger.wait_for(20)
            os.kill(second.pid, signal.SIGSTOP)
            sleep(10)
            os.kill(second.pid, signal.SIGCONT)
    check(stack, ledger)
