"""Which job is claimed next, and how many; cancels that meet jobs anywhere; and statements that stay index scans."""

import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from uuid import UUID

import psycopg
import pytest

from processors.jobs.executor.claims import CLAIM, GIVE_BACK
from processors.jobs.executor.endings import END
from processors.jobs.executor.housekeeping import PROMOTE, RECLAIM
from processors.runtime.failpoints import EXIT_KILLED
from schemas.jobs.states import JobAction
from tests.faults.executors import SHORT_LEASE, check_account, started_again
from tests.support.jobs import Tables, executor
from tests.support.plans import generic_plan

UNTROUBLED = {"beat_s": 0.5, "lease_s": 60}
STARVING_S = float(os.environ.get("SOAK_STARVING_S", "600"))
QUEUE = "INSERT INTO job_queues (queue, step_s, max_running, max_running_per_tenant) VALUES (%s, %s, %s, %s)"


def started_in_order(tables: Tables) -> list[UUID]:
    """Return the jobs by when they were claimed; those of one claim by their rank."""
    rows = tables.rows("SELECT job_id FROM jobs JOIN job_attempts USING (job_id) ORDER BY job_attempts.started_at")
    return [row["job_id"] for row in rows]


def test_a_storm_of_cancels_never_stops_the_next_job(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, slots=1, **UNTROUBLED):
        tables.insert("noop", count=200)  # so that it knows its tasks to be short
        tables.wait_all_finished()
        job_ids = tables.insert("wait", {"seconds": 0.001}, count=120)
        told = {job_id for job_id in job_ids[::2] if tables.change(JobAction.CANCEL, job_id).is_done}
        tables.wait_all_finished()
        statuses = {job_id: tables.job(job_id)["status"] for job_id in job_ids}
    assert {job_id for job_id, status in statuses.items() if status == "cancelled"} <= told
    assert {statuses[job_id] for job_id in job_ids[1::2]} == {"completed"}
    assert set(statuses.values()) <= {"completed", "cancelled"}
    tables.check_invariants()


@pytest.mark.parametrize("delay_s", [0, 3600])
def test_a_job_that_waits_is_cancelled_at_once(tables: Tables, delay_s: float) -> None:
    job_id = tables.insert("noop", delay_s=delay_s)[0]
    assert tables.change(JobAction.CANCEL, job_id).is_done
    job = tables.job(job_id)
    assert (job["status"], job["runs"]) == ("cancelled", 0)
    tables.check_invariants()


@pytest.mark.parametrize("task_type", ["cleans-up", "wait-async"])
def test_a_running_task_is_cancelled_and_may_clean_up(tables: Tables, tmp_path: Path, task_type: str) -> None:
    note = tmp_path / "note"
    with executor(tables, tmp_path, **UNTROUBLED):
        job_id = tables.insert(task_type, {"seconds": 19, "path": str(note)})[0]
        tables.wait(job_id, "running")
        tables.change(JobAction.CANCEL, job_id)
        job = tables.wait(job_id, "cancelled")
    assert (job["attempts"], job["reason"]) == (0, None)
    assert [each["outcome"] for each in tables.attempts(job_id)] == ["cancelled"]
    assert task_type != "cleans-up" or note.read_text() == "cleaned up\n"


def test_a_claimed_job_that_waits_for_its_slot_is_cancelled_and_never_runs(tables: Tables, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    with executor(tables, tmp_path, slots=1, **UNTROUBLED):
        tables.insert("noop", count=300)
        tables.wait_all_finished()
        long = tables.insert("wait", {"seconds": 2}, priority=10, notifies=False)[0]
        waiting = tables.insert("tally", {"path": str(tally), "seconds": 0.2}, count=5)
        tables.wait(long, "running")
        for job_id in waiting:
            assert tables.change(JobAction.CANCEL, job_id).is_done
        tables.wait_all_finished()
    assert {tables.job(job_id)["status"] for job_id in waiting} == {"cancelled"}
    assert not tally.exists()
    tables.check_invariants()


def test_a_finished_job_is_not_cancelled(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, **UNTROUBLED):
        job_id = tables.insert("noop")[0]
        done = tables.wait(job_id, "completed")
    verdict = tables.change(JobAction.CANCEL, job_id)
    assert (verdict.is_done, verdict.detail) == (False, "the job is completed")
    assert tables.job(job_id) == done


def test_a_cancel_that_meets_retries_leaves_the_job_cancelled(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, slots=4, **UNTROUBLED):
        job_ids = tables.insert("raises", {"count": 100}, count=40, max_attempts=100)
        for job_id in job_ids:
            assert tables.change(JobAction.CANCEL, job_id).is_done
        tables.wait_all_finished()
    assert {tables.job(job_id)["status"] for job_id in job_ids} == {"cancelled"}
    tables.check_invariants()


def test_a_task_that_ignores_its_cancellation_is_killed(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, **UNTROUBLED):
        job_id = tables.insert("cancelled-late", {"seconds": 120})[0]
        tables.wait(job_id, "running")
        tables.change(JobAction.CANCEL, job_id)
        job = tables.wait(job_id, "cancelled")
        assert tables.wait(tables.insert("noop")[0], "completed")["runs"] == 1
    assert (job["attempts"], job["lost"]) == (0, 0)


def test_the_most_urgent_job_goes_first(tables: Tables, tmp_path: Path) -> None:
    by_priority = {
        priority: tables.insert("wait", {"seconds": 0.1}, priority=priority)[0] for priority in (1, 9, 5, 10)
    }
    with executor(tables, tmp_path, slots=1, **UNTROUBLED):
        tables.wait_all_finished()
    assert started_in_order(tables) == [by_priority[priority] for priority in (10, 9, 5, 1)]


def test_a_step_of_waiting_is_worth_a_level_of_priority(tables: Tables, tmp_path: Path) -> None:
    tables.rows(QUEUE, "test_ageing", 1.0, None, None)
    old, new = tables.insert("noop", queue="test_ageing", priority=1) + tables.insert(
        "noop", queue="test_ageing", priority=10
    )
    tables.rows("UPDATE job_ready SET rank = rank - interval '10 s' WHERE job_id = %s", old)
    with executor(tables, tmp_path, slots=1, queues=["test_ageing"], **UNTROUBLED):
        tables.wait_all_finished()
    assert started_in_order(tables) == [old, new]


def test_another_priority_moves_a_waiting_job(tables: Tables, tmp_path: Path) -> None:
    first, second = tables.insert("noop", priority=5) + tables.insert("noop", priority=5)
    tables.change(JobAction.REPRIORITISE, second, priority=9)
    with executor(tables, tmp_path, slots=1, **UNTROUBLED):
        tables.wait_all_finished()
    assert started_in_order(tables) == [second, first]


def test_a_small_tenant_does_not_wait_for_a_large_one(tables: Tables, tmp_path: Path) -> None:
    tables.insert("noop", count=5000, tenant="large")
    small = tables.insert("noop", count=5, tenant="small")
    with executor(tables, tmp_path, slots=2, **UNTROUBLED):
        for job_id in small:
            tables.wait(job_id, "completed")
        assert tables.rows("SELECT count(*) > 1000 AS waits FROM job_ready WHERE tenant_id = 'large'") == [
            {"waits": True}
        ]


def test_a_tenant_behind_many_that_are_at_their_limit_gets_its_turn(tables: Tables, tmp_path: Path) -> None:
    tables.rows(QUEUE, "test_many", 60, None, 1)
    full = [f"a-{number:02}" for number in range(40)]
    tables.rows(
        "INSERT INTO executors (executor_id, host, pid, version, queues, types, slots, beat_at) "
        "VALUES (gen_random_uuid(), 'elsewhere', 1, '1', '{}', '{}', 40, clock_timestamp() + interval '1 hour')"
    )
    for tenant in full:
        tables.insert("noop", queue="test_many", tenant=tenant, count=2)
        tables.rows(
            "INSERT INTO job_running (job_id, attempt_id, executor_id, queue, tenant_id, type, deadline_at) "
            "SELECT gen_random_uuid(), gen_random_uuid(), executor_id, 'test_many', %s, 'noop', 'infinity' "
            "FROM executors",
            tenant,
        )
    last = tables.insert("noop", queue="test_many", tenant="b")[0]
    with executor(tables, tmp_path, queues=["test_many"], **UNTROUBLED):
        tables.wait(last, "completed")
    assert tables.rows("SELECT count(*) AS waiting FROM job_ready") == [{"waiting": 80}]


@pytest.mark.parametrize(("limits", "most", "most_of_tenant"), [((3, None), 3, 3), ((None, 1), 2, 1), ((3, 2), 3, 2)])
def test_limits_hold_over_two_executors(
    tables: Tables, tmp_path: Path, limits: tuple[int | None, int | None], most: int, most_of_tenant: int
) -> None:
    tables.rows(QUEUE, "test_limits", 60, *limits)
    settings = {"slots": 4, "queues": ["test_limits"], **UNTROUBLED}
    with executor(tables, tmp_path, **settings), executor(tables, tmp_path, **settings):  # type: ignore[arg-type]
        for tenant in ("one", "two"):
            tables.insert("wait", {"seconds": 0.2}, queue="test_limits", tenant=tenant, count=20)
        seen = running_counts(tables)
    assert max(sum(counts.values()) for counts in seen) == most
    assert max(count for counts in seen for count in counts.values()) <= most_of_tenant
    assert tables.rows("SELECT * FROM job_running") == []


def test_two_limited_queues_never_make_executors_wait_for_each_other(tables: Tables, tmp_path: Path) -> None:
    for queue in ("test_a", "test_b"):
        tables.rows(QUEUE, queue, 60, 2, None)
        tables.insert("noop", queue=queue, count=600)
    before = tables.server.text().count("deadlock detected")
    settings = {"slots": 4, "queues": ["test_a", "test_b"], **UNTROUBLED}
    with executor(tables, tmp_path, **settings), executor(tables, tmp_path, **settings):  # type: ignore[arg-type]
        tables.wait_all_finished()
    assert tables.server.text().count("deadlock detected") == before


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_a_limit_is_free_again_after_kills_between_claim_and_start(tables: Tables, tmp_path: Path, kills: int) -> None:
    tally = tmp_path / "tally"
    tables.rows(QUEUE, "test_leak", 60, 2, None)
    killed = {**os.environ, "TIDEGATE_FAILPOINT": "after_claim:1"}
    settings = {"slots": 2, "queues": ["test_leak"], **SHORT_LEASE}
    with (
        executor(tables, tmp_path, queues=["test_other"], **SHORT_LEASE),
        started_again(  # type: ignore[arg-type]
            tables, tmp_path, environ=killed, **settings
        ) as codes,
    ):
        tables.insert("tally", {"path": str(tally)}, queue="test_leak", count=kills + 2)
        until_s = monotonic() + 60 * kills
        while len(codes) < kills:
            assert monotonic() < until_s
            threading.Event().wait(0.1)
    assert set(codes) == {EXIT_KILLED}
    with executor(tables, tmp_path, **settings):  # type: ignore[arg-type]
        tables.wait_all_finished()
    assert tables.rows("SELECT * FROM job_running") == []
    tables.check_invariants()


def test_a_paused_queue_starts_nothing_until_it_is_resumed(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, **UNTROUBLED):
        tables.rows("UPDATE job_queues SET paused_at = clock_timestamp() WHERE queue = 'default'")
        paused = tables.insert("noop")[0]
        tables.rows("INSERT INTO job_queues (queue) VALUES ('test_open') ON CONFLICT DO NOTHING")
        with executor(tables, tmp_path, queues=["default", "test_open"], **UNTROUBLED):
            tables.wait(tables.insert("noop", queue="test_open")[0], "completed")
            assert tables.job(paused)["status"] == "pending"
            tables.rows("UPDATE job_queues SET paused_at = NULL")
            tables.wait(paused, "completed")


def test_a_pause_ends_at_its_time(tables: Tables, tmp_path: Path) -> None:
    tables.rows(
        "UPDATE job_queues SET paused_at = clock_timestamp(), paused_until = clock_timestamp() + interval '2 s' "
        "WHERE queue = 'default'"
    )
    job_id = tables.insert("noop")[0]
    with executor(tables, tmp_path, **UNTROUBLED):
        tables.wait(job_id, "completed")
    row = tables.rows(
        "SELECT started_at >= paused_until AS late FROM jobs, job_queues WHERE job_queues.queue = 'default'"
    )
    assert row in ([{"late": True}], [{"late": None}])  # a tidy pass may have ended the pause itself


def test_a_job_that_was_not_started_in_time_never_runs(tables: Tables, tmp_path: Path) -> None:
    job_id = tables.insert("noop", expires_s=-1)[0]
    with executor(tables, tmp_path, **UNTROUBLED):
        job = tables.wait(job_id, "cancelled")
    assert (job["reason"], job["runs"]) == ("expired", 0)
    tables.check_invariants()


def test_a_job_that_was_started_in_time_does_not_expire_before_its_next_attempt(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, **UNTROUBLED):
        job_id = tables.insert("raises", {"count": 1, "seconds": 6}, expires_s=5)[0]
        job = tables.wait(job_id, "completed", "cancelled")
    assert (job["status"], job["runs"]) == ("completed", 2)


def test_a_delayed_job_starts_at_its_time(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, **UNTROUBLED):
        job = tables.wait(tables.insert("noop", delay_s=2)[0], "completed")
    assert job["started_at"] >= job["run_at"]


def test_a_delay_and_a_run_of_several_leases_are_one_run(tables: Tables, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    with executor(tables, tmp_path, beat_s=0.5, lease_s=2), executor(tables, tmp_path, beat_s=0.5, lease_s=2):
        job = tables.wait(tables.insert("tally", {"seconds": 6, "path": str(tally)}, delay_s=6)[0], "completed")
    assert job["runs"] == 1
    check_account(tables, tally)


@pytest.mark.parametrize(
    "for_s", [4.0, pytest.param(STARVING_S, marks=[pytest.mark.soak, pytest.mark.timeout(STARVING_S + 300)])]
)
def test_a_stream_of_urgent_jobs_starves_no_other(tables: Tables, tmp_path: Path, for_s: float) -> None:
    tables.rows(QUEUE, "test_starving", 0.1, None, None)
    with executor(tables, tmp_path, slots=2, queues=["test_starving"], **UNTROUBLED):
        until_s = monotonic() + for_s
        while monotonic() < until_s:
            tables.insert("noop", queue="test_starving", priority=10, count=90)
            tables.insert("noop", queue="test_starving", priority=1, count=10)
            tables.wait_until("SELECT count(*) < 300 FROM job_ready")
        tables.wait_all_finished()
    waited = {
        row["priority"]: row["waited_s"]
        for row in tables.rows(
            "SELECT priority, max(extract(epoch FROM started_at - run_at))::float8 AS waited_s "
            "FROM jobs GROUP BY priority"
        )
    }
    # Nine levels at a tenth of a second each, and the backlog that stands before any job.
    assert waited[1] < waited[10] + 0.9 + 10


@pytest.fixture
def finished(tables: Tables) -> Sequence[UUID]:
    """Fill the tables with 100,000 finished jobs and some of every other kind; return jobs that run."""
    tables.insert("noop", count=100_000, notifies=False)
    tables.rows("UPDATE jobs SET status = 'completed', finished_at = now()")
    tables.rows("TRUNCATE job_ready")
    tables.insert("noop", count=300, notifies=False)
    tables.insert("noop", count=300, delay_s=3600)
    running = tables.insert("noop", count=40, delay_s=3600)
    tables.rows("DELETE FROM job_delayed WHERE job_id = ANY(%s)", running)
    tables.rows(
        "INSERT INTO job_running (job_id, attempt_id, executor_id, queue, tenant_id, type, deadline_at) "
        "SELECT job_id, gen_random_uuid(), gen_random_uuid(), queue, tenant_id, type, now() FROM jobs "
        "WHERE job_id = ANY(%s)",
        running,
    )
    tables.rows("VACUUM ANALYZE")
    return running


def test_generic_plans_never_read_all_jobs(tables: Tables, finished: Sequence[UUID]) -> None:
    assert finished
    with psycopg.connect(tables.server.owner) as session:
        for statement in (CLAIM, END, GIVE_BACK, RECLAIM, PROMOTE):
            plan = generic_plan(session, statement)
            assert "Seq Scan on jobs" not in plan, f"{statement}\n{plan}"
            assert "jobs_pkey" in plan


def running_counts(tables: Tables) -> list[dict[str, int]]:
    """Return by tenant how many jobs ran, as often as it was looked at, until all are finished."""
    seen: list[dict[str, int]] = []
    until_s = monotonic() + 60
    while tables.rows("SELECT EXISTS (SELECT FROM jobs WHERE status IN ('pending', 'running')) AS any")[0]["any"]:
        assert monotonic() < until_s
        rows = tables.rows("SELECT tenant_id, count(*) AS running FROM job_running GROUP BY tenant_id")
        seen.append({row["tenant_id"]: row["running"] for row in rows})
    return [counts for counts in seen if counts]


def test_a_task_that_is_killed_by_its_cancel_frees_its_limit(tables: Tables, tmp_path: Path) -> None:
    tables.rows(QUEUE, "test_one", 60, 1, None)
    with executor(tables, tmp_path, slots=2, queues=["test_one"], **UNTROUBLED) as process:
        job_id = tables.insert("wait", {"seconds": 19}, queue="test_one")[0]
        after = tables.insert("noop", queue="test_one")[0]
        tables.wait(job_id, "running")
        tables.change(JobAction.CANCEL, job_id)
        assert tables.wait(after, "completed")["runs"] == 1
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
