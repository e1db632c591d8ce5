"""
`python -m processors.jobs.children.zygote FD MODULE...`: a process that has loaded MODULEs, and forks children.

It has one thread and no connection but the socket FD to its executor. It reports the end of each child, kills what a
child leaves behind, and when its executor is gone it kills every child with all that they have started.
"""

import gc
import os
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

import msgspec

from processors.jobs.children import linux
from processors.jobs.children.child import STOP, serve

FORK = b"fork"
FORK_FDS = 4  # the work and control sockets, standard output and error
MESSAGE_BYTES_MAX = 4096


class Forked(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A child was forked; its pidfd comes with the message."""

    pid: int


class ChildEnded(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A child is gone, with all that it had started."""

    pid: int
    status: int  # as of waitpid
    cpu_s: float


Report = Forked | ChildEnded
REPORTS: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)

_ENCODE = msgspec.msgpack.Encoder().encode


class Zygote:
    """The loop of a zygote."""

    def __init__(self, executor: socket.socket, dsn: str) -> None:
        """Obey the messages on *executor*; children connect to Postgres by *dsn*."""
        self._executor = executor
        self._dsn = dsn
        self._children: set[int] = set()

    def run(self) -> None:
        """Fork and reap until the executor is gone."""
        woken, waker = socket.socketpair()
        for each in (woken, waker):
            each.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poller = select.poll()
        poller.register(self._executor, select.POLLIN)
        poller.register(woken, select.POLLIN)
        while True:
            ready = dict(poller.poll())
            if woken.fileno() in ready:
                woken.recv(MESSAGE_BYTES_MAX)
            self._reap()
            if self._executor.fileno() not in ready:
                continue
            message, descriptors, _, _ = socket.recv_fds(self._executor, MESSAGE_BYTES_MAX, FORK_FDS)
            if not message:
                return
            self._fork(descriptors)

    def _fork(self, descriptors: list[int]) -> None:
        zygote = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._be_child(zygote, descriptors)
        self._children.add(pid)
        for descriptor in descriptors:
            os.close(descriptor)
        pidfd = os.pidfd_open(pid)  # not reaped yet, so the pid is still this child's
        socket.send_fds(self._executor, [_ENCODE(Forked(pid))], [pidfd])
        os.close(pidfd)

    def _be_child(self, zygote: int, descriptors: list[int]) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # A stop of the whole process group, as a terminal or a container sends it, is the executor's to handle.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            linux.die_with_parent(zygote, signal.SIGKILL)
            os.setsid()
            linux.adopt_orphans()  # what a task has started stays the child's, also where it hides as a daemon
            linux.prefer_for_oom()
            self._executor.close()
            work, control, output, errors = descriptors
            for source, target in ((output, 1), (errors, 2)):
                os.dup2(source, target)
                os.close(source)
            serve(socket.socket(fileno=work), socket.socket(fileno=control), dsn=self._dsn)
            code = 0
        except BaseException:  # noqa: BLE001  a forked process must not go on as the zygote
            traceback.print_exc()
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                break
            if found.si_pid in self._children:
                # Before it is reaped its pid, and so its group, is nobody else's.
                linux.kill_group(found.si_pid)
            _, status, usage = os.wait4(found.si_pid, 0)
            if found.si_pid in self._children:
                self._children.discard(found.si_pid)
                self._executor.send(_ENCODE(ChildEnded(found.si_pid, status, usage.ru_utime + usage.ru_stime)))
        for orphan in set(linux.children_of(os.getpid())) - self._children:
            linux.kill(orphan)

    def kill_all(self) -> None:
        """Kill every child and all that they have started."""
        for pid in self._children:
            linux.kill_group(pid)
        self._children.clear()
        with suppress(ChildProcessError):
            while remaining := linux.children_of(os.getpid()):
                for pid in remaining:
                    linux.kill(pid)
                os.wait()


def main() -> None:
    """Load the modules that the command line names, and serve."""
    descriptor, executor_pid, *modules = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # Children begin with it blocked: one that came before its handler is there would end the process.
    signal.pthread_sigmask(signal.SIG_BLOCK, {STOP})
    # A signal that can be handled: a zygote that was killed outright could not kill what its children have started.
    signal.signal(signal.SIGTERM, _end)
    linux.die_with_parent(int(executor_pid), signal.SIGTERM)
    linux.adopt_orphans()
    for module in modules:
        try:
            import_module(module)
        except Exception:  # noqa: BLE001  its tasks fail by themselves, and say so
            traceback.print_exc()
    gc.collect()
    gc.freeze()  # so that a collection in a child does not copy every page
    zygote = Zygote(socket.socket(fileno=int(descriptor)), os.environ.pop("TIDEGATE_TASKS_POSTGRES", ""))
    try:
        zygote.run()
    except (_Ended, OSError):
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        zygote.kill_all()
    os._exit(0)


class _Ended(BaseException):
    """The executor is gone, by its signal."""


def _end(*_: object) -> None:
    raise _Ended


if __name__ == "__main__":
    main()
