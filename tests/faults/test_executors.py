"""Executors, their zygotes and children are killed, suspended and stopped: no job is lost, and none ends twice."""

import os
import random
import signal
from collections import Counter
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest

from schemas.jobs.states import JobAction
from tests.faults.executors import (
    BACKENDS,
    SHORT_LEASE,
    check_account,
    children_of,
    is_alive,
    started_again,
    stopped,
    wait_for,
    wait_gone,
    zygote_of,
)
from tests.support.jobs import Tables, executor

UNTROUBLED = {"beat_s": 0.5, "lease_s": 60}


def test_nothing_of_a_killed_executor_stays_alive(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, slots=3) as process:
        job_ids = [tables.insert("forks", {"seconds": 60})[0], tables.insert("long-statement", {"seconds": 60})[0]]
        for job_id in job_ids:
            tables.wait(job_id, "running")
        tables.wait_until("SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%%'")
        wait_for_sleeps(process.pid, 2)
        tree = process.tree()
        process.signal(signal.SIGKILL)
        wait_gone(tree)
        tables.wait_until(BACKENDS, within_s=10)


def test_the_job_of_a_killed_executor_is_taken_back_after_its_lease(tables: Tables, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    with executor(tables, tmp_path, **SHORT_LEASE) as killed:
        job_id = tables.insert("tally", {"seconds": 20, "path": str(tally)})[0]
        wait_for(tally)
        killed.signal(signal.SIGKILL)
        killed.wait()
    tables.rows("UPDATE jobs SET parameters = json_build_object('path', %s::text)", str(tally))
    with executor(tables, tmp_path, **SHORT_LEASE):
        job = tables.wait(job_id, "completed")
    assert (job["attempts"], job["lost"], job["runs"]) == (0, 1, 2)
    outcomes = [(each["outcome"], each["reason"]) for each in tables.attempts(job_id)]
    assert outcomes == [("lost", "executor_lost"), ("completed", None)]
    check_account(tables, tally)


def test_a_killed_child_fails_one_attempt_and_its_statement_ends(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, **UNTROUBLED) as process:
        job_id = tables.insert("long-statement", {"seconds": 60}, max_attempts=1)[0]
        tables.wait_until("SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%%'")
        os.kill(children_of(process)[0], signal.SIGKILL)
        job = tables.wait(job_id, "failed")
        tables.wait_until(BACKENDS, within_s=10)
    assert (job["reason"], job["lost"]) == ("crashed", 0)


def test_after_the_zygote_is_killed_its_jobs_run_again(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, slots=2, **UNTROUBLED) as process:
        job_ids = tables.insert("forks", {"seconds": 3}, count=2)
        wait_for_sleeps(process.pid, 4)
        tree = process.tree()
        os.kill(zygote_of(process), signal.SIGKILL)
        wait_gone(tree)
        for job_id in job_ids:
            job = tables.wait(job_id, "completed")
            assert (job["attempts"], job["lost"]) == (0, 1)
        assert tables.wait(tables.insert("noop")[0], "completed")["runs"] == 1
        assert process.process.poll() is None


def test_the_answer_of_an_executor_that_wakes_after_its_lease_is_dropped(tables: Tables, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    with executor(tables, tmp_path, **SHORT_LEASE) as sleeper:
        job_id = tables.insert("tally", {"seconds": 2, "path": str(tally)})[0]
        wait_for(tally)
        sleeper.signal(signal.SIGSTOP)
        with executor(tables, tmp_path, **SHORT_LEASE):
            job = tables.wait(job_id, "completed")
            first = tables.attempts(job_id)
            sleeper.signal(signal.SIGCONT)
            tables.wait_until("SELECT count(*) = 2 FROM executors WHERE beat_at > clock_timestamp() - interval '2 s'")
            assert tables.wait(tables.insert("noop")[0], "completed")
        assert sleeper.process.poll() is None
    assert tables.job(job_id) == job
    assert tables.attempts(job_id) == first
    assert [each["outcome"] for each in first] == ["lost", "completed"]
    check_account(tables, tally_with_noop(tally, tables))


def test_a_claimed_job_that_others_have_run_meanwhile_is_not_started(tables: Tables, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    with executor(tables, tmp_path, slots=1, **SHORT_LEASE) as sleeper:
        tables.insert("tally", {"path": str(tally)}, count=200)
        tables.wait_all_finished()
        running = tables.insert("tally", {"path": str(tally), "seconds": 1})[0]
        tables.insert("tally", {"path": str(tally)}, count=20)
        tables.wait_until("SELECT count(*) > 10 FROM job_running")
        sleeper.signal(signal.SIGSTOP)
        with executor(tables, tmp_path, slots=2, **SHORT_LEASE):
            tables.wait_all_finished()
            sleeper.signal(signal.SIGCONT)
            tables.wait_until("SELECT count(*) = 2 FROM executors WHERE beat_at > clock_timestamp() - interval '2 s'")
            tables.insert("tally", {"path": str(tally)}, count=20)
            tables.wait_all_finished()
    runs = Counter(line.split()[0] for line in tally.read_text().splitlines())
    assert {job_id for job_id, count in runs.items() if count > 1} <= {str(running)}
    check_account(tables, tally)


def test_an_executor_whose_row_is_deleted_makes_it_again(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, **UNTROUBLED):
        job_id = tables.insert("wait", {"seconds": 2})[0]
        tables.wait(job_id, "running")
        tables.rows("DELETE FROM executors")
        tables.wait_until("SELECT count(*) = 1 FROM executors")
        job = tables.wait(job_id, "completed")
    assert job["runs"] == 1


def test_jobs_of_an_executor_whose_row_is_gone_for_good_are_taken_back(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, **SHORT_LEASE) as killed:
        job_id = tables.insert("wait", {"seconds": 1})[0]
        tables.wait(job_id, "running")
        killed.signal(signal.SIGKILL)
        killed.wait()
    tables.rows("DELETE FROM executors")
    with executor(tables, tmp_path, **SHORT_LEASE):
        assert tables.wait(job_id, "completed")["lost"] == 1


def test_a_poison_job_fails_after_three_executors_and_takes_no_other_with_it(tables: Tables, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    with started_again(tables, tmp_path, slots=2, **SHORT_LEASE) as codes:
        innocent = tables.insert("tally", {"seconds": 0.2, "path": str(tally)}, count=10)
        poison = tables.insert("kills-executor", priority=6)[0]
        job = tables.wait(poison, "failed", within_s=120)
        tables.wait_all_finished(within_s=120)
    assert (job["reason"], job["lost"], job["attempts"]) == ("executor_lost", 3, 0)
    assert codes == [-signal.SIGKILL] * 3
    assert {tables.job(job_id)["status"] for job_id in innocent} == {"completed"}
    assert max(tables.job(job_id)["lost"] for job_id in innocent) <= 1
    tables.check_invariants()


def test_jobs_that_end_while_postgres_is_away_are_stored_once_and_not_run_again(tables: Tables, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    with executor(tables, tmp_path, slots=4, beat_s=1, lease_s=30), executor(tables, tmp_path, beat_s=1, lease_s=30):
        job_ids = tables.insert("tally", {"seconds": 1.5, "path": str(tally)}, count=6)
        wait_for(tally, 6)
        tables.server.stop(signal.SIGQUIT)
        sleep(4)
        tables.server.start()
        tables.wait_all_finished()
    assert [tables.job(job_id)["runs"] for job_id in job_ids] == [1] * 6
    check_account(tables, tally)


def test_after_an_outage_that_outlasts_leases_nobody_is_declared_lost_at_once(tables: Tables, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    settings = {"beat_s": 1, "lease_s": 12}
    with executor(tables, tmp_path, **settings), executor(tables, tmp_path, **settings):
        tables.insert("tally", {"seconds": 6, "path": str(tally)}, count=4)
        wait_for(tally, 4)
        tables.server.stop(signal.SIGQUIT)
        tables.server.start()
        tables.rows("UPDATE executors SET beat_at = beat_at - interval '1 minute'")  # as if nobody could renew it
        tables.wait_all_finished()
    assert len(tally.read_text().splitlines()) == 4
    check_account(tables, tally)


def test_an_executor_that_cannot_renew_its_lease_kills_its_tasks(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, beat_s=0.5, lease_s=6) as process:
        job_id = tables.insert("forks", {"seconds": 60})[0]
        wait_for_sleeps(process.pid, 2)
        tree = [pid for pid in process.tree() if pid != zygote_of(process)]
        assert tables.server.process is not None
        with stopped(psutil.Process(tables.server.process.pid)):
            wait_gone(tree, within_s=20)
        tables.change(JobAction.CANCEL, job_id)
        tables.wait(job_id, "cancelled")
        assert process.process.poll() is None
    assert "lease cannot be renewed" in process.text()


def test_a_type_that_an_executor_does_not_know_is_left_to_one_that_does(tables: Tables, tmp_path: Path) -> None:
    with executor(tables, tmp_path, types="", **UNTROUBLED):
        job_id = tables.insert("noop")[0]
        tables.wait_until("SELECT count(*) = 1 FROM job_delayed")
        assert tables.wait(tables.insert("echo")[0], "completed")["runs"] == 1
        with executor(tables, tmp_path, **UNTROUBLED):
            job = tables.wait(job_id, "completed")
    assert (job["attempts"], job["lost"]) == (0, 0)
    assert len(tables.attempts(job_id)) == job["runs"]


@pytest.mark.parametrize("kills", [100, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(4 * 3600)])])
def test_children_that_are_killed_at_random_lose_no_job_and_no_run(tables: Tables, tmp_path: Path, kills: int) -> None:
    tally = tmp_path / "tally"
    chance = random.Random(kills)
    with executor(tables, tmp_path, slots=4, **UNTROUBLED) as process:
        killed, given_up_s = 0, monotonic() + 120 + kills
        while killed < kills:
            assert monotonic() < given_up_s, process.text()
            assert process.process.poll() is None, process.text()
            if tables.rows("SELECT count(*) AS waiting FROM job_ready")[0]["waiting"] < 100:
                tables.insert("tally", {"seconds": 0.01, "path": str(tally)}, count=200, max_attempts=100)
            until_s = monotonic() + 0.5
            while monotonic() < until_s and killed < kills:
                sleep(chance.uniform(0.0, 0.05))
                found = children_of(process)
                if found and is_alive(pid := chance.choice(found)):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
        tables.wait_all_finished(within_s=300)
        assert process.process.poll() is None, process.text()
    assert tables.rows("SELECT DISTINCT status FROM jobs") == [{"status": "completed"}]
    check_account(tables, tally)


def tally_with_noop(tally: Path, tables: Tables) -> Path:
    """Add what a no-op does not note itself."""
    rows = tables.rows("SELECT job_id, attempt_id FROM job_attempts JOIN jobs USING (job_id) WHERE type = 'noop'")
    with tally.open("a") as file:
        file.writelines(f"{row['job_id']} {row['attempt_id']}\n" for row in rows)
    return tally


def wait_for_sleeps(pid: int, count: int) -> None:
    """Wait until so many commands of tasks run below the process."""
    until_s = monotonic() + 30
    while sum(each.name() == "sleep" for each in psutil.Process(pid).children(recursive=True)) < count:
        assert monotonic() < until_s
        sleep(0.05)
