"""The executor's side of a child, over real sockets and pipes and without a process behind them."""

import asyncio
import os
import socket

import pytest

from processors.children.frames import framed
from processors.jobs.children.messages import Ended, Run
from processors.jobs.children.output import Output
from processors.jobs.children.processes import ChildProcess, _Pipes

RUN = Run(
    attempt_id="a", job_id="j", number=1, failed_attempts=0, type="noop", function="module:function", parameters=b"{}",
    tenant="demo", user_id=None, soft_limit_s=1.0, folder="/tmp",
)  # fmt: skip


@pytest.mark.timeout(20)
async def test_a_child_that_dies_as_it_answers_is_not_read_from_again() -> None:
    """Its descriptors are closed then, and their numbers may be those of a pipe on which a read would wait."""
    work, their_work = socket.socketpair()
    control, their_control = socket.socketpair()
    (output, their_output), (errors, their_errors) = os.pipe(), os.pipe()
    for descriptor in (output, errors):
        os.set_blocking(descriptor, False)
    child = ChildProcess(os.getpid(), os.pidfd_open(os.getpid()), _Pipes(work, control, output, errors))
    running = asyncio.create_task(child.run(RUN, output=Output(), progress=lambda _progress: None))
    await asyncio.sleep(0)
    their_work.send(framed(Ended(attempt_id="a", ending="completed")))
    child.ended(0)  # reads the answer, then closes
    others = [os.pipe() for _ in range(4)]
    assert {output, errors} & {descriptor for pipe in others for descriptor in pipe}
    assert (await running).attempt_id == "a"
    for descriptor in (their_output, their_errors, *(each for pipe in others for each in pipe)):
        os.close(descriptor)
    their_work.close()
    their_control.close()
