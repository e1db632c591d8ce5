"""
The loop of a zygote: a process that has loaded what its children need, and forks them.

It has one thread and no connection but the socket to its parent. It reports the end of each child, kills what a child
leaves behind, and when its parent is gone it kills every child with all that they have started.
"""

import gc
import os
import select
import signal
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import msgspec

from processors.children import linux

FORK = b"fork"
DESCRIPTORS_MAX = 8  # that a request to fork brings for the child
MESSAGE_BYTES_MAX = 4096

Serve = Callable[[list[int]], None]
"""The life of a child, given the descriptors that came with the request."""


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

    def __init__(self, parent: socket.socket, serve: Serve) -> None:
        """Obey the messages on *parent*; a child does *serve*, and ends."""
        self._parent = parent
        self._serve = serve
        self._children: set[int] = set()

    def run(self) -> None:
        """Fork and reap until the parent is gone."""
        woken, waker = socket.socketpair()
        for each in (woken, waker):
            each.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poller = select.poll()
        poller.register(self._parent, select.POLLIN)
        poller.register(woken, select.POLLIN)
        while True:
            ready = dict(poller.poll())
            if woken.fileno() in ready:
                woken.recv(MESSAGE_BYTES_MAX)
            self._reap()
            if self._parent.fileno() not in ready:
                continue
            message, descriptors, _, _ = socket.recv_fds(self._parent, MESSAGE_BYTES_MAX, DESCRIPTORS_MAX)
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
        socket.send_fds(self._parent, [_ENCODE(Forked(pid))], [pidfd])
        os.close(pidfd)

    def _be_child(self, zygote: int, descriptors: list[int]) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # A stop of the whole process group, as a terminal or a container sends it, is the parent's to handle.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            linux.die_with_parent(zygote, signal.SIGKILL)
            os.setsid()
            linux.adopt_orphans()  # what a child has started stays its own, also where it hides as a daemon
            linux.prefer_for_oom()
            self._parent.close()
            self._serve(descriptors)
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
                self._parent.send(_ENCODE(ChildEnded(found.si_pid, status, usage.ru_utime + usage.ru_stime)))
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


def serve_forks(descriptor: int, parent: int, *, load: Callable[[], None], serve: Serve) -> NoReturn:
    """Be the zygote of the process *parent*, on the socket *descriptor*: `load`, then fork until it is gone."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # A signal that can be handled: a zygote that was killed outright could not kill what its children have started.
    signal.signal(signal.SIGTERM, _end)
    linux.die_with_parent(parent, signal.SIGTERM)
    linux.adopt_orphans()
    load()
    gc.collect()
    gc.freeze()  # so that a collection in a child does not copy every page
    zygote = Zygote(socket.socket(fileno=descriptor), serve)
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
    """The parent is gone, by its signal."""


def _end(*_: object) -> None:
    raise _Ended
