"""Calls of Linux for processes that Python's library lacks."""

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
OOM_SCORE_CHILD = 500  # a child goes before its executor

_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int, number: signal.Signals) -> None:
    """Ask for signal *number* when the parent ends; end at once if it has ended already. Call it first."""
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of what descendants leave behind, which else would be init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def prefer_for_oom() -> None:
    """Ask the kernel to kill this process first where memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_CHILD))


def drop_new_privileges() -> None:
    """Give up, for this process and all it starts, whatever a program could gain by its file's owner or bits."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def leave_network() -> bool:
    """
    Move into a network of one's own, which has no way out; return False where the system does not allow that.

    Call it while the process has one thread: what it forks later is in there as well. Unix sockets go on.
    """
    if _LIBC.unshare(_CLONE_NEWNET) == 0:
        return True
    user, group = os.geteuid(), os.getegid()
    if _LIBC.unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        return False
    with suppress(OSError):  # without a mapping it owns no file, and so makes none
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def children_of(pid: int) -> list[int]:
    """Return the pids of the children of a process, of all its threads; none where it is gone."""
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError, ValueError):
            found += [int(each) for each in listed.read_text().split()]
    return found


def kill_group(leader: int) -> None:
    """Kill every process of the group of *leader*."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def kill(pid: int) -> None:
    """Kill one process."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option})")
