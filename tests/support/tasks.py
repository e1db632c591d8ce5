"""Task functions that tests run in executors, the well-behaved and the others."""

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from processors.jobs.context import (
    BadInput,
    Completed,
    Fail,
    Retry,
    Snooze,
    SoftLimitReached,
    StaleAttempt,
    TaskCancelled,
    TaskContext,
)
from schemas.jobs.types import MIB, TaskType


class Free(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of any task here."""

    seconds: float = 0.0
    count: int = 0
    path: str = ""
    value: Any = None


def note(path: str, text: str) -> None:
    """Append a line to a file outside, in one write: what a kill cannot take back."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def noop(_context: TaskContext, _parameters: Free) -> None:
    """Do nothing."""


def tally(context: TaskContext, parameters: Free) -> int:
    """Note the run in a file, then take a while."""
    note(parameters.path, f"{context.job_id} {context.attempt_id}")
    time.sleep(parameters.seconds)
    return context.attempt


def wait(_context: TaskContext, parameters: Free) -> str:
    """Sleep."""
    time.sleep(parameters.seconds)
    return "slept"


async def wait_async(_context: TaskContext, parameters: Free) -> str:
    """Sleep on the loop."""
    await asyncio.sleep(parameters.seconds)
    return "slept"


def stubborn(_context: TaskContext, parameters: Free) -> str:
    """Go on through every `except Exception`."""
    until_s = time.monotonic() + parameters.seconds
    while time.monotonic() < until_s:
        with suppress(Exception):
            time.sleep(0.05)
    return "never stopped"


def immovable(_context: TaskContext, parameters: Free) -> str:
    """Go on through everything that can be caught."""
    until_s = time.monotonic() + parameters.seconds
    while time.monotonic() < until_s:
        with suppress(BaseException):
            time.sleep(0.05)
    return "never stopped"


def in_c(_context: TaskContext, _parameters: Free) -> int:
    """Stay in one call of C, which no signal interrupts."""
    return sum(range(10**11))


def partial(_context: TaskContext, parameters: Free) -> str:
    """Return what there is at the soft limit."""
    try:
        time.sleep(parameters.seconds)
    except SoftLimitReached:
        return "half"
    return "whole"


def memory(_context: TaskContext, parameters: Free) -> int:
    """Take memory, and keep it for a while."""
    held = bytearray(os.urandom(1024) * 1024 * parameters.count)
    time.sleep(parameters.seconds)
    return len(held)


def memory_of_child(_context: TaskContext, parameters: Free) -> int:
    """Take memory in another process."""
    code = f"import os,time; x=bytearray(os.urandom(1024)*1024*{parameters.count}); time.sleep({parameters.seconds})"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode


def memory_of_daemon(_context: TaskContext, parameters: Free) -> None:
    """Take memory in a process whose parent is gone already."""
    code = f"import os,time; x=bytearray(os.urandom(1024)*1024*{parameters.count}); time.sleep({parameters.seconds})"
    subprocess.run(["sh", "-c", f"setsid {sys.executable} -c '{code}' >/dev/null 2>&1 &"], check=True)
    time.sleep(parameters.seconds)


def noisy(_context: TaskContext, parameters: Free) -> str:
    """Write *count* megabytes."""
    for number in range(parameters.count):
        sys.stdout.write(f"{number} " + "x" * 1_000_000 + "\n")
    print("the end")
    return "done"


def dots(_context: TaskContext, parameters: Free) -> None:
    """Write *count* single characters, and no line end."""
    for _ in range(parameters.count):
        os.write(1, b".")


def written_bytes(_context: TaskContext, parameters: Free) -> None:
    """Write what is no text, and go on for a while."""
    os.write(1, b"before \0 \xff after\n")
    time.sleep(parameters.seconds)


def logs(_context: TaskContext, _parameters: Free) -> None:
    """Write a line each way."""
    print("a line of output")
    print("a line of errors", file=sys.stderr)
    logging.getLogger("shop").warning("a line of logging, password=hunter2secret")


def forks(_context: TaskContext, parameters: Free) -> list[int]:
    """Leave processes behind, one of which has left the group."""
    plain = subprocess.Popen(["sleep", "300"])
    away = subprocess.Popen(["setsid", "sleep", "300"])
    time.sleep(parameters.seconds)
    return [plain.pid, away.pid]


def daemonizes(_context: TaskContext, parameters: Free) -> list[int]:
    """Leave a process behind whose parent is gone already."""
    shown = subprocess.run(
        ["sh", "-c", "setsid sleep 300 >/dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE, text=True, check=True
    )
    time.sleep(parameters.seconds)
    return [int(shown.stdout)]


def forks_and_returns(_context: TaskContext, _parameters: Free) -> str:
    """Return twice: in this process, and first in a copy of it."""
    if os.fork() == 0:
        return "the copy"
    time.sleep(0.3)
    return "the original"


def reports_from_thread(context: TaskContext, parameters: Free) -> str:
    """Leave a thread behind that reports progress."""

    def report() -> None:
        for number in range(parameters.count):
            context.progress(1.0, "x" * (number % 400))

    threading.Thread(target=report, daemon=True).start()
    time.sleep(0.05)
    return "x" * 200_000


def crash(_context: TaskContext, parameters: Free) -> None:
    """End the process, with an exit code or by a signal."""
    print("last words", flush=True)
    if parameters.count:
        os.kill(os.getpid(), parameters.count)
        time.sleep(10)
    os._exit(3)


def segfault(_context: TaskContext, _parameters: Free) -> None:
    """Read what is not there."""
    ctypes.string_at(0)


def exits(_context: TaskContext, _parameters: Free) -> None:
    """Call sys.exit."""
    sys.exit("enough")


def raises(context: TaskContext, parameters: Free) -> str:
    """Raise in the first *count* attempts, each after a while."""
    time.sleep(parameters.seconds)
    if context.failed_attempts < parameters.count:
        try:
            raise KeyError("inner")  # noqa: TRY301  for its chain
        except KeyError as inner:
            raise ValueError("no good, api_key=abcdef0123456789\0") from inner
    return "at last"


def bad_input(_context: TaskContext, _parameters: Free) -> None:
    """Refuse for good."""
    raise BadInput("no such goal")


def returns(context: TaskContext, parameters: Free) -> Any:
    """Return what the parameters ask for."""
    endings: dict[str, Any] = {
        "retry": Retry(after_s=0.1, why="not yet"),
        "retry one day": Retry(after_s=float("inf")),
        "snooze": Snooze(after_s=0.1) if context.attempt <= parameters.count else "awake",
        "fail": Fail(why="never"),
        "summary": Completed(result={"rows": 3}, summary={"rows": 3}),
        "object": object(),
        "nul": "a\0b",
        "surrogate": "\ud800",
        "large": "x" * 300_000,
        "large summary": Completed(result=1, summary="x" * 3_000),
        "nan": float("nan"),
        "raw": msgspec.Raw(b"{"),
        "deep": msgspec.Raw(b"[" * 100_000 + b"]" * 100_000),
        "snooze for ever": Snooze(after_s=float("inf")),
    }
    return endings[parameters.value]


def progress(context: TaskContext, parameters: Free) -> None:
    """Report often."""
    for number in range(parameters.count):
        context.progress(number / parameters.count, f"step {number}, token=abcdef0123456789")
        print(f"line {number}", flush=True)
        time.sleep(parameters.seconds / parameters.count)


def cleans_up(_context: TaskContext, parameters: Free) -> None:
    """Note that a cancellation was seen."""
    try:
        time.sleep(parameters.seconds)
    except TaskCancelled:
        note(parameters.path, "cleaned up")
        raise


def uses_folder(context: TaskContext, _parameters: Free) -> str:
    """Write a temporary file."""
    path = context.temporary_folder() / "file"
    path.write_text("x")
    return str(path)


def keeps_folder(context: TaskContext, parameters: Free) -> None:
    """Note the place of a temporary folder with a file, and wait through everything."""
    (context.temporary_folder() / "file").write_text("x")
    note(parameters.path, str(context.temporary_folder()))
    immovable(context, parameters)


def commits(context: TaskContext, parameters: Free) -> str:
    """Insert a row, wait, and commit while the job is ours."""
    with context.connect() as connection:
        connection.execute("INSERT INTO audit_log (tenant_id, by, action, target) VALUES ('t', 'task', 'effect', %s)",
                           [context.job_id])  # fmt: skip
        time.sleep(parameters.seconds)
        try:
            context.commit(connection)
        except StaleAttempt:
            note(parameters.path, "stale")
            raise
    return "committed"


def long_statement(context: TaskContext, parameters: Free) -> None:
    """Wait inside Postgres."""
    with context.connect() as connection:
        connection.execute("SELECT pg_sleep(%s)", [parameters.seconds])


def kills_executor(_context: TaskContext, _parameters: Free) -> None:
    """Kill the executor: the parent of the zygote, which is our parent."""
    zygote = os.getppid()
    stat = Path(f"/proc/{zygote}/stat").read_text()
    os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
    time.sleep(60)


def _type(name: str, **more: Any) -> TaskType:
    limits = {"soft_limit_s": 20.0, "hard_limit_s": 25.0, "retry_base_s": 0.05, "retry_cap_s": 0.1}
    return TaskType(
        name=name, function=f"tests.support.tasks:{name.replace('-', '_')}", parameters=Free, **(limits | more)
    )


_SHORT = {"soft_limit_s": 1.0, "hard_limit_s": 2.0}

TYPES = [
    *(_type(name) for name in ("noop", "tally", "wait", "raises", "returns", "crash", "segfault", "exits", "logs")),
    *(_type(name) for name in ("noisy", "forks", "bad-input", "progress", "cleans-up", "uses-folder", "commits")),
    *(_type(name) for name in ("long-statement", "kills-executor")),
    *(_type(name, **_SHORT) for name in ("stubborn", "immovable", "in-c", "partial")),
    _type("wait-async", is_interruptible=True),
    _type("memory", memory_bytes_max=128 * MIB),
    _type("memory-of-child", memory_bytes_max=128 * MIB),
    _type("memory-of-daemon", memory_bytes_max=128 * MIB),
    *(_type(name) for name in ("dots", "daemonizes", "forks-and-returns", "reports-from-thread")),
    _type("keeps-folder", soft_limit_s=20.0, hard_limit_s=20.5),
    TaskType(name="bytes", function="tests.support.tasks:written_bytes", parameters=Free),
    TaskType(name="partial-allowed", function="tests.support.tasks:partial", parameters=Free, soft_limit_s=1.0,
             hard_limit_s=2.0, gives_partial_results=True),
    TaskType(name="interruptible", function="tests.support.tasks:wait", parameters=Free, is_interruptible=True),
    TaskType(name="interruptible-stubborn", function="tests.support.tasks:immovable", parameters=Free,
             is_interruptible=True),
    TaskType(name="interruptible-tally", function="tests.support.tasks:tally", parameters=Free, is_interruptible=True),
    TaskType(name="cancelled-late", function="tests.support.tasks:immovable", parameters=Free),
    TaskType(name="missing", function="tests.support.no_such_module:run", parameters=Free, max_attempts=1),
]  # fmt: skip
