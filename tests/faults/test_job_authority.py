"""An attempt has authority over its job until another one does; each scenario fails with the guard taken away."""

import signal
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from processors.jobs.executor.claims import LOCK_QUEUE
from processors.jobs.executor.endings import END, failed
from processors.jobs.executor.housekeeping import LOST_ROWS_MAX, RECLAIM
from schemas.jobs.states import JobAction
from tests.support.attempts import LEASE_S, NOOP, OTHER, claim, completed, end, lose, reclaim
from tests.support.jobs import Tables

ATTEMPT_GUARD = "AND job_running.attempt_id = ended.attempt_id"
ANTI_JOIN = "NOT EXISTS ("


def stale_end(tables: Tables, statement: str = END) -> dict[str, Any]:
    """Let an executor lose its job to another one and end it all the same; return the job."""
    job_id = tables.insert("noop")[0]
    first = claim(tables)[0]
    lose(tables)
    assert reclaim(tables) == 1
    second = claim(tables, OTHER)[0]
    end(tables, completed(first, '"of the first"'), statement=statement)
    assert second.job_id == job_id
    return tables.job(job_id)


def test_a_stale_attempt_cannot_end_the_job_of_its_successor(tables: Tables) -> None:
    job = stale_end(tables)
    assert (job["status"], job["runs"]) == ("running", 2)
    assert tables.rows("SELECT * FROM job_results") == []
    assert [each["outcome"] for each in tables.attempts(job["job_id"])] == ["lost"]


def test_without_the_guard_a_stale_attempt_ends_the_job_of_its_successor(tables: Tables) -> None:
    assert stale_end(tables, without(END, ATTEMPT_GUARD, ""))["status"] == "completed"


def test_a_stale_end_beside_good_ones_is_dropped_alone(tables: Tables) -> None:
    tables.insert("noop", count=3)
    held = claim(tables, count=3)
    gone = held[1]._replace(attempt_id=uuid4())
    stale = end(tables, completed(held[0]), completed(gone), completed(held[2]))
    assert stale == 1
    assert [tables.job(each.job_id)["status"] for each in held] == ["completed", "running", "completed"]


def test_an_end_that_is_stored_twice_counts_once(tables: Tables) -> None:
    tables.insert("noop")
    held = claim(tables)[0]
    assert (end(tables, completed(held)), end(tables, completed(held))) == (0, 1)
    assert len(tables.attempts(held.job_id)) == 1
    tables.check_invariants()


def test_what_cannot_be_stored_fails_alone(tables: Tables) -> None:
    tables.insert("noop", count=3)
    held = claim(tables, count=3)
    end(tables, completed(held[0]), completed(held[1], "{no json"), completed(held[2]))
    assert [tables.job(each.job_id)["status"] for each in held] == ["completed", "failed", "completed"]
    assert tables.job(held[1].job_id)["error_type"] == "NotStorable"
    tables.check_invariants()


def live_reclaim(tables: Tables, statement: str = RECLAIM) -> int:
    """Look for lost jobs where every executor is there; return how many were taken back."""
    tables.insert("noop", count=2)
    claim(tables, count=2)
    return reclaim(tables, statement)


def test_the_jobs_of_a_live_executor_are_never_taken_back(tables: Tables) -> None:
    assert live_reclaim(tables) == 0


def test_without_the_look_at_its_lease_a_live_executor_loses_its_jobs(tables: Tables) -> None:
    assert live_reclaim(tables, without(RECLAIM, ANTI_JOIN, "EXISTS (")) == 2


def unknown_executor(tables: Tables, statement: str = RECLAIM) -> int:
    """Delete the row of an executor that holds a job; return how many were taken back."""
    tables.insert("noop")
    claim(tables)
    tables.rows("DELETE FROM executors")
    return reclaim(tables, statement)


def test_the_job_of_an_executor_without_a_row_is_taken_back(tables: Tables) -> None:
    assert unknown_executor(tables) == 1


def test_without_the_anti_join_it_stays_for_ever(tables: Tables) -> None:
    inner = without(without(RECLAIM, ANTI_JOIN, "EXISTS ("), "beat_at > clock", "beat_at <= clock")
    assert unknown_executor(tables, inner) == 0


def counted_attempts(tables: Tables, attempt_of: Callable[[int], UUID]) -> str:
    """Claim, lose the claim with a crash of Postgres that had not written it yet, and claim again."""
    job_id = tables.insert("noop")[0]
    first = claim(tables)[0]._replace(attempt_id=attempt_of(1))
    tables.rows("DELETE FROM job_running")  # the crash: both transactions are as if they had never been
    tables.rows("UPDATE jobs SET status = 'pending', runs = 0, version = 1")
    tables.rows("INSERT INTO job_ready (job_id, queue, tenant_id, type, rank) SELECT job_id, queue, tenant_id, type, "
                "run_at FROM jobs")  # fmt: skip
    second = claim(tables, OTHER)[0]
    tables.rows("UPDATE job_running SET attempt_id = %s", attempt_of(second.number))
    end(tables, completed(first))
    return str(tables.job(job_id)["status"])


def test_an_attempt_of_before_a_crash_of_postgres_has_no_authority_after_it(tables: Tables) -> None:
    assert counted_attempts(tables, lambda _number: uuid4()) == "running"


def test_a_counter_in_place_of_a_random_id_repeats_after_a_crash_of_postgres(tables: Tables) -> None:
    assert counted_attempts(tables, lambda number: UUID(int=number)) == "completed"


def survives_a_crash(tables: Tables, *, synchronous: str) -> bool:
    """Claim a job right before Postgres crashes; return True if the claim is there afterwards."""
    tables.rows("ALTER SYSTEM SET wal_writer_delay = '10s'")
    tables.rows(f"ALTER ROLE tidegate_executor SET synchronous_commit = {synchronous}")
    tables.rows("SELECT pg_reload_conf()")
    try:
        tables.insert("noop")
        claim(tables)
        tables.server.stop(signal.SIGKILL)
        tables.server.start()
        return bool(tables.rows("SELECT job_id FROM job_running"))
    finally:
        tables.rows("ALTER ROLE tidegate_executor RESET synchronous_commit")
        tables.rows("ALTER SYSTEM RESET wal_writer_delay")
        tables.rows("SELECT pg_reload_conf()")


def test_a_claim_survives_a_crash_of_postgres(tables: Tables) -> None:
    assert survives_a_crash(tables, synchronous="on")


def test_a_claim_that_is_not_written_through_is_gone_after_a_crash(tables: Tables) -> None:
    assert not survives_a_crash(tables, synchronous="off")


def test_an_end_before_the_reaper_leaves_nothing_to_take_back(tables: Tables) -> None:
    tables.insert("noop")
    held = claim(tables)[0]
    lose(tables)
    assert (end(tables, completed(held)), reclaim(tables)) == (0, 0)
    assert tables.job(held.job_id)["status"] == "completed"
    tables.check_invariants()


def test_an_end_after_the_reaper_is_stale(tables: Tables) -> None:
    tables.insert("noop")
    held = claim(tables)[0]
    lose(tables)
    assert (reclaim(tables), end(tables, completed(held))) == (1, 1)
    job = tables.job(held.job_id)
    assert (job["status"], job["lost"]) == ("pending", 1)
    tables.check_invariants()


@pytest.mark.parametrize("ends_first", [True, False])
def test_an_end_and_the_reaper_at_once_leave_one_of_both(tables: Tables, ends_first: bool) -> None:
    tables.insert("noop")
    held = claim(tables)[0]
    lose(tables)
    with psycopg.connect(tables.dsn) as session:
        if ends_first:  # holds the row while the reaper looks
            session.execute("SELECT FROM job_running WHERE job_id = %s FOR UPDATE", [held.job_id])
            assert reclaim(tables) == 0
            session.commit()
            assert end(tables, completed(held)) == 0
        else:
            session.execute(RECLAIM, {"lease_s": LEASE_S, "limit": LOST_ROWS_MAX})  # type: ignore[arg-type]
            found: list[int] = []
            ending = threading.Thread(target=lambda: found.append(end(tables, completed(held))))
            ending.start()
            tables.wait_until("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            session.commit()
            ending.join()
            assert found == [1]
    assert tables.job(held.job_id)["status"] == ("completed" if ends_first else "pending")
    tables.check_invariants()


@pytest.mark.parametrize("held", ["test_a", "test_b"])
def test_a_claim_that_waits_for_a_limited_queue_makes_no_other_claim_wait_for_good(tables: Tables, held: str) -> None:
    """Locks are taken in one order, whichever queue has its turn: who holds the last one needs no other."""
    for queue in ("test_a", "test_b"):
        tables.rows("INSERT INTO job_queues (queue, max_running) VALUES (%s, 100)", queue)
        tables.insert("noop", queue=queue, count=10)
    with psycopg.connect(tables.dsn) as session:
        session.execute(LOCK_QUEUE, {"queue": held})
        claiming = threading.Thread(target=lambda: claim(tables, queues=["test_a", "test_b"], times=2))
        claiming.start()
        tables.wait_until("SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        waits_with = tables.rows(
            "SELECT count(*) AS locks FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE locktype = 'advisory' AND granted AND application_name = 'test'"
        )
        session.rollback()
        claiming.join()
    assert waits_with == [{"locks": 0 if held == "test_a" else 1}]


def test_a_claim_passes_over_a_job_that_is_being_cancelled(tables: Tables) -> None:
    job_id = tables.insert("noop")[0]
    with psycopg.connect(tables.dsn) as session:
        session.execute("DELETE FROM job_ready WHERE job_id = %s", [job_id])
        assert claim(tables) == []
        session.rollback()
    assert len(claim(tables)) == 1


def test_a_cancel_that_meets_a_claim_reaches_the_running_attempt(tables: Tables) -> None:
    job_id = tables.insert("noop")[0]
    with psycopg.connect(tables.server.owner) as session:
        session.execute("SELECT FROM job_ready WHERE job_id = %s FOR UPDATE", [job_id])  # a claim that is under way
        cancelling = threading.Thread(target=lambda: tables.change(JobAction.CANCEL, job_id))
        cancelling.start()
        tables.wait_until("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        session.execute("DELETE FROM job_ready WHERE job_id = %s", [job_id])
        session.execute(
            "INSERT INTO job_running (job_id, attempt_id, executor_id, queue, tenant_id, type, deadline_at) "
            "VALUES (%s, gen_random_uuid(), gen_random_uuid(), 'default', 'demo', 'noop', 'infinity')",
            [job_id],
        )
        session.execute("UPDATE jobs SET status = 'running', runs = 1 WHERE job_id = %s", [job_id])
        session.commit()
        cancelling.join()
    assert tables.rows("SELECT cancelled_by FROM job_running") == [{"cancelled_by": "test"}]


def test_a_failure_after_a_cancel_leaves_the_job_cancelled(tables: Tables) -> None:
    tables.insert("noop")
    held = claim(tables)[0]
    tables.change(JobAction.CANCEL, held.job_id)
    end(tables, failed(held, NOOP))
    assert tables.job(held.job_id)["status"] == "cancelled"
    tables.check_invariants()


def test_a_lost_job_that_was_to_be_cancelled_is_cancelled(tables: Tables) -> None:
    tables.insert("noop")
    held = claim(tables)[0]
    tables.change(JobAction.CANCEL, held.job_id)
    lose(tables)
    assert reclaim(tables) == 1
    assert tables.job(held.job_id)["status"] == "cancelled"
    tables.check_invariants()


def test_the_third_lost_executor_fails_the_job(tables: Tables) -> None:
    job_id = tables.insert("noop")[0]
    for _ in range(3):
        claim(tables)
        lose(tables)
        assert reclaim(tables) == 1
    job = tables.job(job_id)
    assert (job["status"], job["reason"], job["lost"], job["attempts"]) == ("failed", "executor_lost", 3, 0)
    tables.check_invariants()


def test_a_job_past_its_deadline_is_taken_back_from_a_live_executor(tables: Tables) -> None:
    tables.insert("noop")
    claim(tables)
    tables.rows("UPDATE job_running SET deadline_at = clock_timestamp() - interval '1 s'")
    assert reclaim(tables) == 1
    tables.check_invariants()


def test_the_reaper_passes_over_rows_that_it_cannot_have(tables: Tables) -> None:
    tables.insert("noop", count=LOST_ROWS_MAX + 20)
    for _ in range(2):
        claim(tables, count=64)
    lose(tables)
    with psycopg.connect(tables.dsn) as session:
        session.execute("SELECT FROM job_running ORDER BY ctid LIMIT %s FOR UPDATE", [LOST_ROWS_MAX])
        assert reclaim(tables) == 20
    assert reclaim(tables) == LOST_ROWS_MAX
    tables.check_invariants()


def without(statement: str, guard: str, instead: str) -> str:
    """Return a statement with a guard taken away."""
    assert guard in statement
    return statement.replace(guard, instead)
