"""The end of an attempt and what becomes of its job."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.jobs.executor.claims import Claimed
from processors.jobs.executor.endings import LOST_MAX, SNOOZES_MAX, failed, lost, not_started, retry_delay_s, snoozed
from schemas.jobs.states import AttemptOutcome, EndReason, JobStatus
from schemas.jobs.types import TaskType

TYPE = TaskType(name="t", function="a:b", retry_base_s=2.0, retry_cap_s=60.0)
NOW = datetime(2026, 11, 30, tzinfo=UTC)


def claimed(*, failed_attempts: int = 0, max_attempts: int = 3, lost_count: int = 0, snoozes: int = 0) -> Claimed:
    return Claimed(
        job_id=UUID(int=1),
        attempt_id=UUID(int=2),
        queue="default",
        tenant="demo",
        type="t",
        parameters="{}",
        user_id=None,
        number=1,
        failed_attempts=failed_attempts,
        max_attempts=max_attempts,
        lost=lost_count,
        snoozes=snoozes,
        timeout_s=None,
        run_at=NOW,
        ready_at=NOW,
        traceparent=None,
    )


@given(failures=st.integers(0, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_the_pause_before_a_retry_is_random_and_bounded(failures: int, jitter: float) -> None:
    pause_s = retry_delay_s(claimed(failed_attempts=failures), TYPE, jitter=jitter)
    assert 0 <= pause_s <= min(60.0, 2.0 * 2.0 ** min(failures, 30))


@pytest.mark.parametrize(("failures", "longest_s"), [(0, 2), (1, 4), (2, 8), (4, 32), (5, 60), (99, 60)])
def test_the_longest_pause_doubles_to_its_cap(failures: int, longest_s: float) -> None:
    assert retry_delay_s(claimed(failed_attempts=failures), TYPE, jitter=1.0) == longest_s


def test_a_failure_with_attempts_left_waits_for_the_next_one() -> None:
    end = failed(claimed(failed_attempts=1), TYPE)
    assert (end.outcome, end.next_status, end.reason) == (AttemptOutcome.FAILED, JobStatus.PENDING, EndReason.ERROR)


@pytest.mark.parametrize(("failures", "is_final"), [(2, False), (0, True)])
def test_the_last_failure_ends_the_job(failures: int, is_final: bool) -> None:
    end = failed(claimed(failed_attempts=failures), TYPE, is_final=is_final)
    assert (end.next_status, end.delay_s) == (JobStatus.FAILED, 0.0)


def test_a_task_may_choose_its_pause() -> None:
    assert failed(claimed(), TYPE, after_s=7.0).delay_s == 7.0


@pytest.mark.parametrize(("count", "status"), [(0, "pending"), (LOST_MAX - 2, "pending"), (LOST_MAX - 1, "failed")])
def test_a_lost_attempt_counts_apart_up_to_its_bound(count: int, status: str) -> None:
    end = lost(claimed(lost_count=count, failed_attempts=2))
    assert (end.outcome, end.next_status, end.reason) == (AttemptOutcome.LOST, status, EndReason.EXECUTOR_LOST)


def test_what_was_not_started_costs_nothing() -> None:
    end = not_started(claimed(failed_attempts=2, lost_count=2))
    assert (end.outcome, end.next_status, end.started_at) == (AttemptOutcome.INTERRUPTED, JobStatus.PENDING, None)


def test_a_snooze_costs_no_attempt() -> None:
    end = snoozed(claimed(failed_attempts=2, snoozes=SNOOZES_MAX - 1), after_s=5.0)
    assert (end.outcome, end.next_status, end.delay_s) == (AttemptOutcome.SNOOZED, JobStatus.PENDING, 5.0)


def test_a_task_that_snoozes_for_ever_fails() -> None:
    end = snoozed(claimed(snoozes=SNOOZES_MAX), after_s=5.0)
    assert (end.outcome, end.next_status, end.error_type) == (AttemptOutcome.FAILED, JobStatus.FAILED, "Snooze")
