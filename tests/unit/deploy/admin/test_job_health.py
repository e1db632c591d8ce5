"""Reports of doctor and status on executors, queues and snapshots."""

import pytest

from deploy.admin import job_health
from deploy.admin.job_health import ExecutorState, Snapshot, UnservedQueue
from deploy.errors import NotReachable


def executor(*, silent_s: float = 1.0, held: int = 0, pid: int = 7) -> ExecutorState:
    return ExecutorState(
        id="x", host="h", pid=pid, slots=4, busy=2, queues=["default"], is_draining=False, silent_s=silent_s, held=held
    )


def test_live_and_silent_executors_are_counted() -> None:
    found = [executor(), executor(pid=8, silent_s=45)]
    assert job_health.summary(found) == "1 live with 4 slots, 2 busy; h/8 silent for 45 s"
    assert job_health.summary([]) == "0 live with 0 slots, 0 busy"


@pytest.mark.parametrize(("silent_s", "held", "is_problem"), [(5, 3, False), (400, 0, False), (95, 3, True)])
def test_a_silent_executor_is_a_problem_while_it_holds_jobs(silent_s: float, held: int, *, is_problem: bool) -> None:
    assert bool(list(job_health.of_executors([executor(silent_s=silent_s, held=held)]))) == is_problem


def test_a_queue_without_an_executor_is_named_with_the_command_that_helps() -> None:
    waits = UnservedQueue(queue="slow", oldest_s=12, ready=3)
    assert list(job_health.of_queues([waits])) == []
    assert job_health.queues_text([waits]) == "slow has waited 12 s for an executor"
    [problem] = job_health.of_queues([UnservedQueue(queue="slow", oldest_s=120, ready=10_000)])
    assert "queue slow has 10000 or more ready jobs, the oldest for 120 s" in problem
    assert "start `python -m processors executor --queue slow`" in problem


def test_an_old_snapshot_is_named_with_its_session() -> None:
    young, old = (Snapshot(pid=9, role="r", application="report", age_s=age_s) for age_s in (3, 900))
    assert list(job_health.of_snapshot(None)) == list(job_health.of_snapshot(young)) == []
    assert job_health.snapshot_text(young) == "3 s: pid 9, r, report"
    [problem] = job_health.of_snapshot(old)
    assert "a transaction of r (report) is open for 900 s" in problem
    assert "pg_terminate_backend(9)" in problem


def test_a_postgres_that_is_away_is_not_reachable() -> None:
    with pytest.raises(NotReachable, match="Postgres does not answer"):
        job_health.executors("postgresql://127.0.0.1:1/x")
