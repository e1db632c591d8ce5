"""One attempt: the order of its stops, and what its end means."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from processors.jobs.children.messages import Ended, Interrupt
from processors.jobs.children.processes import ChildDied, ChildProcess
from processors.jobs.executor.attempts import Attempt
from processors.jobs.executor.claims import Claimed
from schemas.jobs.states import AttemptOutcome, EndReason, JobStatus
from schemas.jobs.types import TaskType

TYPE = TaskType(name="t", function="a:b", soft_limit_s=60.0, hard_limit_s=90.0)
NOW = datetime(2026, 11, 30, tzinfo=UTC)
KILLED = 9  # a status as of waitpid


class FakeChild:
    """A child that notes what it is told, and ends when a test says so."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.is_told = asyncio.Event()
        self.answer: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    async def run(self, *_: Any, **__: Any) -> Ended:
        return await self.answer

    def interrupt(self, _attempt_id: str, kind: Interrupt) -> None:
        self.told.append(kind.kind)
        self.is_told.set()

    def kill(self) -> None:
        self.told.append("kill")
        if not self.answer.done():
            self.answer.set_exception(ChildDied(KILLED))


def attempt_in(child: FakeChild, *, timeout_s: float | None = None, declared: TaskType = TYPE) -> Attempt:
    claimed = Claimed(
        job_id=UUID(int=1),
        attempt_id=UUID(int=2),
        queue="default",
        tenant="demo",
        type="t",
        parameters="{}",
        user_id=None,
        number=1,
        failed_attempts=2,
        max_attempts=3,
        lost=0,
        snoozes=0,
        timeout_s=timeout_s,
        run_at=NOW,
        ready_at=NOW,
        traceparent=None,
    )
    return Attempt(claimed, declared, cast("ChildProcess", child), folder=Path("/nowhere"))


def answer(ending: Any, **more: Any) -> Ended:
    return Ended(attempt_id=str(UUID(int=2)), ending=ending, **more)


async def test_a_soft_limit_after_a_cancel_is_not_told() -> None:
    child = FakeChild()
    attempt = attempt_in(child, timeout_s=0.05)
    running = asyncio.create_task(attempt.run())
    await asyncio.sleep(0)
    attempt.cancel()
    attempt.cancel()
    await asyncio.sleep(0.2)
    child.answer.set_result(answer("cancelled"))
    assert (await running).next_status is JobStatus.CANCELLED
    assert child.told == ["cancelled"]


async def test_a_cancel_after_the_soft_limit_is_told() -> None:
    child = FakeChild()
    attempt = attempt_in(child, timeout_s=0.01)
    running = asyncio.create_task(attempt.run())
    await child.is_told.wait()
    attempt.cancel()
    child.answer.set_result(answer("cancelled"))
    await running
    assert child.told == ["soft_limit", "cancelled"]


async def test_what_comes_after_the_end_reaches_no_later_task_of_the_child() -> None:
    child = FakeChild()
    attempt = attempt_in(child)
    child.answer.set_result(answer("completed", result=b"1"))
    await attempt.run()
    attempt.cancel()
    attempt.interrupt()
    attempt.kill(AttemptOutcome.LOST)
    assert child.told == []


async def test_an_interruptible_task_is_interrupted_once_even_after_its_soft_limit() -> None:
    child = FakeChild()
    declared = TaskType(name="t", function="a:b", is_interruptible=True)
    attempt = attempt_in(child, timeout_s=0.01, declared=declared)
    running = asyncio.create_task(attempt.run())
    await child.is_told.wait()
    attempt.interrupt()
    attempt.interrupt()
    child.answer.set_result(answer("interrupted"))
    end = await running
    assert child.told == ["soft_limit", "interrupted"]
    assert (end.outcome, end.next_status) == (AttemptOutcome.INTERRUPTED, JobStatus.PENDING)


async def test_any_other_task_is_killed_at_once_and_its_executor_counts_as_lost() -> None:
    child = FakeChild()
    attempt = attempt_in(child)
    running = asyncio.create_task(attempt.run())
    await asyncio.sleep(0)
    attempt.interrupt()
    assert (await running).outcome is AttemptOutcome.LOST


async def test_the_first_cause_of_a_kill_counts() -> None:
    child = FakeChild()
    attempt = attempt_in(child)
    running = asyncio.create_task(attempt.run())
    await asyncio.sleep(0)
    attempt.peak_bytes = 5
    attempt.kill(EndReason.MEMORY_LIMIT)
    attempt.kill(AttemptOutcome.LOST)
    end = await running
    assert (end.reason, end.next_status, end.peak_bytes) == (EndReason.MEMORY_LIMIT, JobStatus.FAILED, 5)


async def test_secrets_in_errors_are_masked() -> None:
    child = FakeChild()
    child.answer.set_result(answer("failed", error_type="E", error="password=hunter2", traceback="a\npassword=hunter2"))
    end = await attempt_in(child).run()
    assert "hunter2" not in f"{end.error}{end.traceback}"
