"""A child as its executor sees it, with a test at the other end of its sockets."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from processors.children.frames import Frames, framed
from processors.children.processes import cause_of
from processors.jobs.children.messages import OF_EXECUTOR, Ended, Run
from processors.jobs.children.output import Output
from processors.jobs.children.processes import ChildDied, ChildProcess, _Pipes

WITHIN_S = 20.0


class OtherEnd:
    """The process and the ends of the pipes that are a child's."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["sleep", "600"])
        self.work, self._their_work = socket.socketpair()
        self.control, self._their_control = socket.socketpair()
        output, self.output = os.pipe()
        errors, self.errors = os.pipe()
        self.pipes = _Pipes(self._their_work, self._their_control, output, errors)

    def child(self) -> ChildProcess:
        return ChildProcess(self.process.pid, os.pidfd_open(self.process.pid), self.pipes)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for each in (self.work, self.control):
            each.close()
        for descriptor in (self.output, self.errors):
            os.close(descriptor)


@pytest.fixture
def other_end() -> Iterator[OtherEnd]:
    found = OtherEnd()
    yield found
    found.close()


def run_of(attempt_id: str = "a", parameters: bytes = b"{}") -> Run:
    return Run(
        attempt_id=attempt_id,
        job_id="j",
        number=1,
        failed_attempts=0,
        type="t",
        function="a:b",
        parameters=parameters,
        tenant="demo",
        user_id=None,
        soft_limit_s=1.0,
        folder="/nowhere",
    )


async def run(child: ChildProcess, message: Run, output: Output | None = None) -> Ended:
    async with asyncio.timeout(WITHIN_S):
        return await child.run(message, output=output or Output(), progress=lambda _progress: None)


async def test_an_answer_ends_the_run_with_all_that_was_written_before_it(other_end: OtherEnd) -> None:
    child, output = other_end.child(), Output()
    os.write(other_end.output, b"the last words\n")
    other_end.work.sendall(
        framed(Ended(attempt_id="b", ending="failed")) + framed(Ended(attempt_id="a", ending="completed"))
    )
    assert (await run(child, run_of(), output)).ending == "completed"
    assert "the last words" in (output.text() or "")
    child.ended(0)


async def test_a_child_that_dies_before_it_has_taken_a_large_task_is_not_waited_for(other_end: OtherEnd) -> None:
    other_end.pipes.work.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    child = other_end.child()
    running = asyncio.create_task(run(child, run_of(parameters=b"x" * 4_000_000)))
    await asyncio.sleep(0.05)
    child.ended(signal.SIGKILL)
    with pytest.raises(ChildDied, match="killed by SIGKILL"):
        await running


async def test_a_large_task_arrives_whole(other_end: OtherEnd) -> None:
    other_end.pipes.work.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    child = other_end.child()
    running = asyncio.create_task(run(child, run_of(parameters=b"x" * 1_000_000)))
    got = await asyncio.to_thread(Frames(other_end.work, OF_EXECUTOR).read)
    assert got == run_of(parameters=b"x" * 1_000_000)
    other_end.work.sendall(framed(Ended(attempt_id="a", ending="completed")))
    await running
    child.ended(0)


async def test_a_child_that_is_killed_takes_no_more_tasks_even_if_it_has_answered(other_end: OtherEnd) -> None:
    child = other_end.child()
    other_end.work.sendall(framed(Ended(attempt_id="a", ending="completed")))
    await run(child, run_of())
    child.kill()
    assert child.is_retiring
    child.ended(signal.SIGKILL)


async def test_an_answer_that_came_before_the_death_counts(other_end: OtherEnd) -> None:
    child = other_end.child()
    running = asyncio.create_task(run(child, run_of()))
    await asyncio.sleep(0)
    other_end.work.sendall(framed(Ended(attempt_id="a", ending="completed")))
    child.ended(signal.SIGKILL)
    assert (await running).ending == "completed"


async def test_a_dead_child_takes_no_task(other_end: OtherEnd) -> None:
    child = other_end.child()
    child.ended(3 << 8)
    with pytest.raises(ChildDied, match="exited with code 3"):
        await run(child, run_of())


async def test_a_child_that_sends_no_frame_is_killed(other_end: OtherEnd) -> None:
    child = other_end.child()
    running = asyncio.create_task(run(child, run_of()))
    other_end.work.sendall(b"\xff" * 100)
    assert await asyncio.to_thread(other_end.process.wait, WITHIN_S) == -signal.SIGKILL
    child.ended(signal.SIGKILL)
    with pytest.raises(ChildDied):
        await running


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (None, "ended with its zygote"),
        (9, "killed by SIGKILL"),
        (11, "killed by SIGSEGV"),
        (60, "killed by signal 60"),
        (3 << 8, "exited with code 3"),
    ],
)
def test_an_end_is_described(status: int | None, cause: str) -> None:
    assert cause_of(status) == cause
