"""Executors after SIGTERM: what runs ends, what waits goes back, and nothing counts as lost that was not."""

import signal
from pathlib import Path

import pytest

from schemas.jobs.states import JobAction
from tests.faults.executors import SHORT_LEASE, check_account, wait_for
from tests.support.jobs import Tables, executor

UNTROUBLED = {"beat_s": 0.5, "lease_s": 60}


def test_a_running_job_ends_within_the_drain(tables: Tables, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    with executor(tables, tmp_path, drain_s=30, **UNTROUBLED) as process:
        job_id = tables.insert("tally", {"seconds": 2, "path": str(tally)})[0]
        wait_for(tally)
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert (tables.job(job_id)["status"], tables.job(job_id)["runs"]) == ("completed", 1)
    assert tables.rows("SELECT * FROM executors") == []


def test_jobs_that_wait_for_a_slot_go_back_as_if_never_claimed(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, slots=1, drain_s=30, **UNTROUBLED) as process:
        tables.insert("noop", count=300)  # so that it knows its tasks to be short, and claims ahead
        tables.wait_all_finished()
        long = tables.insert("wait", {"seconds": 3}, priority=10)[0]
        waiting = tables.insert("noop", count=30)
        before = {job_id: tables.job(job_id) for job_id in waiting}
        tables.wait(long, "running")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert tables.job(long)["status"] == "completed"
    for job_id in waiting:
        if (job := tables.job(job_id))["status"] != "completed":
            assert (job["status"], job["runs"], job["lost"], job["attempts"]) == ("pending", 0, 0, 0)
            assert job["run_at"] == before[job_id]["run_at"]
    tables.check_invariants()


def test_an_interruptible_task_is_returned_and_loses_no_attempt(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, drain_s=0.5, **UNTROUBLED) as process:
        job_ids = [tables.insert(name, {"seconds": 15})[0] for name in ("interruptible", "wait-async")]
        for job_id in job_ids:
            tables.wait(job_id, "running")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    for job_id in job_ids:
        job = tables.job(job_id)
        assert (job["status"], job["attempts"], job["lost"]) == ("pending", 0, 0)
        assert [each["outcome"] for each in tables.attempts(job_id)] == ["interrupted"]
    tables.check_invariants()


def test_an_interruptible_task_that_ignores_it_is_killed_and_loses_no_attempt(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, drain_s=0.5, **UNTROUBLED) as process:
        job_id = tables.insert("interruptible-stubborn", {"seconds": 60})[0]
        tables.wait(job_id, "running")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    job = tables.job(job_id)
    assert (job["status"], job["attempts"], job["lost"]) == ("pending", 0, 0)
    assert [each["outcome"] for each in tables.attempts(job_id)] == ["interrupted"]


def test_any_other_task_is_killed_after_the_drain_and_counts_as_lost(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, drain_s=0.5, **UNTROUBLED) as process:
        job_id = tables.insert("wait", {"seconds": 15})[0]
        tables.wait(job_id, "running")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    job = tables.job(job_id)
    assert (job["status"], job["attempts"], job["lost"]) == ("pending", 0, 1)
    assert [each["outcome"] for each in tables.attempts(job_id)] == ["lost"]


def test_a_second_signal_ends_the_drain(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, drain_s=200, **UNTROUBLED) as process:
        job_id = tables.insert("wait", {"seconds": 19})[0]
        tables.wait(job_id, "running")
        process.signal(signal.SIGTERM)
        tables.wait_until("SELECT is_draining FROM executors")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert tables.job(job_id)["lost"] == 1


def test_the_lease_is_renewed_through_the_drain(tables: Tables, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    with executor(tables, tmp_path, **SHORT_LEASE), executor(tables, tmp_path, drain_s=60, slots=4, **SHORT_LEASE) as b:
        job_ids = tables.insert("tally", {"seconds": 10, "path": str(tally)}, count=6)
        wait_for(tally, 6)
        b.signal(signal.SIGTERM)
        assert b.wait() == 0
        tables.wait_all_finished()
    assert [tables.job(job_id)["runs"] for job_id in job_ids] == [1] * 6
    check_account(tables, tally)


def test_without_beats_in_the_drain_a_job_is_taken_back_while_it_runs(tables: Tables, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    with (
        executor(tables, tmp_path, **SHORT_LEASE),
        executor(tables, tmp_path, drain_s=60, slots=4, variant="no_beats_in_drain", **SHORT_LEASE) as b,
    ):
        job_ids = tables.insert("tally", {"seconds": 10, "path": str(tally)}, count=6)
        wait_for(tally, 6)
        b.signal(signal.SIGTERM)
        b.wait()
        tables.wait_all_finished()
    assert max(tables.job(job_id)["runs"] for job_id in job_ids) > 1


def test_a_job_is_cancelled_in_the_drain(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, drain_s=60, **UNTROUBLED) as process:
        job_id = tables.insert("wait", {"seconds": 19})[0]
        tables.wait(job_id, "running")
        process.signal(signal.SIGTERM)
        tables.wait_until("SELECT is_draining FROM executors")
        tables.change(JobAction.CANCEL, job_id)
        assert process.wait() == 0
    assert tables.job(job_id)["status"] == "cancelled"


def test_a_cancelled_task_that_ignores_it_holds_no_drain_up(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, drain_s=0.5, **UNTROUBLED) as process:
        job_id = tables.insert("cancelled-late", {"seconds": 60})[0]
        tables.wait(job_id, "running")
        tables.change(JobAction.CANCEL, job_id)
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert tables.job(job_id)["status"] == "cancelled"


@pytest.mark.parametrize("round_number", range(3))
def test_a_drain_under_load_leaves_nothing_behind(tables: Tables, tmp_path: Path, round_number: int) -> None:
    tally = tmp_path / "tally"
    with executor(tables, tmp_path, slots=4, drain_s=0.2 * round_number, **UNTROUBLED) as process:
        tables.insert("interruptible-tally", {"seconds": 0.02, "path": str(tally)}, count=3000)
        wait_for(tally, 100)
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert tables.rows("SELECT * FROM job_running") == []
    assert tables.rows("SELECT sum(lost) AS lost FROM jobs") == [{"lost": 0}]
    tables.check_invariants()
