"""A program under supervision, with real processes."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL

import pytest

from deploy.errors import CommandFailed
from deploy.local.child import Child
from deploy.local.program import Program

TIMEOUT_S = 20.0
LIVES = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
IS_DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {LIVES}"
FAILS_ONCE = (
    "import os, pathlib, sys, time; mark = pathlib.Path(sys.argv[1]); is_first = not mark.exists(); "
    "mark.write_text(str(os.getpid())); print('no such thing', flush=True); "
    "sys.exit(3) if is_first else time.sleep(600)"
)
FAILS = "import sys; print('no such thing'); sys.exit(3)"


@dataclass
class Nursery:
    """Makes children of one line of Python each, and keeps what they and their keeper say."""

    folder: Path
    inherited: int
    children: list[Child] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    started: "asyncio.Queue[int]" = field(default_factory=asyncio.Queue)

    def make(self, line: str, *, stop_timeout_s: float = TIMEOUT_S) -> Child:
        """Return a child that is ready once it wrote its pid to a file."""
        mark = self.folder / "pid"
        program = Program(
            name="child",
            command=(sys.executable, "-c", line, str(mark)),
            is_ready=lambda: mark.exists() and mark.read_text() == str(child.pid),
            stop_timeout_s=stop_timeout_s,
        )
        child = Child(
            program,
            log=self.folder / "child.log",
            keep_open=self.inherited,
            say=self.said.append,
            on_start=lambda: self.started.put_nowait(child.pid),
        )
        self.children.append(child)
        return child


@pytest.fixture
async def nursery(tmp_path: Path) -> AsyncIterator[Nursery]:
    """Stop what it made after the test."""
    inherited = os.open(os.devnull, os.O_RDONLY)
    made = Nursery(folder=tmp_path, inherited=inherited)
    yield made
    for child in made.children:
        await child.stop()
    os.close(inherited)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_started_child_is_ready_and_a_stopped_one_is_gone(nursery: Nursery) -> None:
    child = nursery.make(LIVES)
    await child.start(timeout_s=TIMEOUT_S)
    assert is_alive(child.pid)
    await child.stop()
    assert not is_alive(child.pid)
    assert nursery.said == []


async def test_a_child_that_dies_is_started_again_and_that_is_said(nursery: Nursery) -> None:
    child = nursery.make(LIVES)
    await child.start(timeout_s=TIMEOUT_S)
    first = await nursery.started.get()
    os.kill(first, SIGKILL)
    second = await asyncio.wait_for(nursery.started.get(), TIMEOUT_S)
    assert second != first
    assert child.pid == second
    assert nursery.said == ["child was ended by SIGKILL and starts again in 0.5 s"]


async def test_a_failed_start_names_the_process_the_reason_and_the_log(nursery: Nursery) -> None:
    with pytest.raises(
        CommandFailed, match=r"^child exited with code 3 at its start: no such thing \(log: .*child\.log\)$"
    ):
        await nursery.make(FAILS).start(timeout_s=TIMEOUT_S)


async def test_a_start_does_not_wait_for_ever(nursery: Nursery) -> None:
    with pytest.raises(CommandFailed, match=r"^child was not ready after 0 s: it logged nothing"):
        await nursery.make("import time; time.sleep(600)").start(timeout_s=0)


async def test_a_child_that_does_not_stop_is_killed_and_that_is_said(nursery: Nursery) -> None:
    child = nursery.make(IS_DEAF, stop_timeout_s=0.1)
    await child.start(timeout_s=TIMEOUT_S)
    await child.stop()
    assert not is_alive(child.pid)
    assert nursery.said == ["child did not stop within 0 s and is killed"]


async def test_a_process_that_fails_later_is_started_again_with_the_reason_said(nursery: Nursery) -> None:
    child = nursery.make(FAILS_ONCE)
    await child.start(timeout_s=TIMEOUT_S)
    for _ in range(2):
        await asyncio.wait_for(nursery.started.get(), TIMEOUT_S)
    reason = f"no such thing (log: {child.log})"
    assert nursery.said == [f"child exited with code 3 and starts again in 0.5 s: {reason}"]
