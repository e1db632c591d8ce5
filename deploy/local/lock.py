"""
One supervisor a folder, and none before the processes of the one before are gone.

`up.lock` is held by the supervisor, whose pid stands in it; `children.lock` by every process that it started as
well, because they inherit the open file. The kernel lets go of both when their holders die, so neither is ever
stale, and a pid that was read from a held lock is the right one.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

from deploy.errors import CommandFailed

SUPERVISOR = "up.lock"
CHILDREN = "children.lock"
SUPERVISOR_TIMEOUT_S = 0.5  # someone who asks for its pid holds the lock for a moment
CHILDREN_TIMEOUT_S = 15.0
POLL_S = 0.1


@contextmanager
def hold(folder: Path) -> Iterator[int]:
    """
    Hold the lock of *folder*'s supervisor; yield the descriptor that every child must inherit.

    Raises:
        CommandFailed: another one is, or processes of a supervisor that was killed do not go away.
    """
    with (folder / SUPERVISOR).open("a+") as own, (folder / CHILDREN).open("a") as children:
        if not _take(own.fileno(), timeout_s=SUPERVISOR_TIMEOUT_S):
            raise CommandFailed(
                f"a stack runs in {folder} already (pid {supervisor(folder)}): `tidegate down` stops it"
            )
        own.truncate(0)
        own.write(str(os.getpid()))
        own.flush()
        if not _take(children.fileno(), timeout_s=CHILDREN_TIMEOUT_S):
            raise CommandFailed(f"processes of an earlier stack in {folder} are still running: end them first")
        yield children.fileno()


def supervisor(folder: Path) -> int | None:
    """Return the pid of the supervisor that runs in *folder*, or None."""
    with suppress(FileNotFoundError), (folder / SUPERVISOR).open() as own:
        if not _take(own.fileno(), kind=fcntl.LOCK_SH):
            return int(own.read() or 0) or None
    return None


def _take(descriptor: int, *, kind: int = fcntl.LOCK_EX, timeout_s: float = 0) -> bool:
    deadline_s = monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() >= deadline_s:
                return False
            sleep(POLL_S)
        else:
            return True
