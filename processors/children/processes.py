"""
The parent's side of a zygote.

A child is identified by its sockets, and its process by a pidfd that its zygote opened before anyone could reap it: a
signal never meets another process. What has ended is known when the zygote says that nothing of it is left, or when
the zygote itself is gone, and all its children with it.
"""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Generic, Protocol, Self, TypeVar

from processors.children.zygote import DESCRIPTORS_MAX, FORK, MESSAGE_BYTES_MAX, REPORTS, ChildEnded, Forked
from schemas.process.interpreter import module_command, module_environment

STARTS_WITHIN_S = 120.0  # of a zygote, which may import much
GONE_WITHIN_S = 5.0
FORKS_AT_ONCE = 16  # requests that a zygote has before it; its socket holds some hundred


class ZygoteGone(Exception):
    """The zygote ended, and its children with it. Start another one."""


class EndedChild(Protocol):
    """A child's end, as its zygote needs it."""

    def kill(self) -> None:
        """Kill the process."""

    def ended(self, status: int | None) -> None:
        """Note that nothing of the process is left: its status as of waitpid; None: it ended with its zygote."""


Child = TypeVar("Child", bound=EndedChild)


def cause_of(status: int | None) -> str:
    """Return the cause of a process's end, for people."""
    if status is None:
        return "ended with its zygote"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with suppress(ValueError):
            return f"killed by {signal.Signals(number).name}"
        return f"killed by signal {number}"
    return f"exited with code {os.waitstatus_to_exitcode(status)}"


class ZygoteProcess(Generic[Child]):
    """A zygote, as its parent sees it."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        """Talk to *process* by *connection*; `start` makes one."""
        self._process = process
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        # The oldest first, as the zygote answers; each with what makes a child of a pid and a pidfd.
        self._forking: list[tuple[asyncio.Future[Child], Callable[[int, int], Child]]] = []
        self._children: dict[int, Child] = {}
        self._forks = asyncio.Semaphore(FORKS_AT_ONCE)
        self.gone = asyncio.Event()
        self._loop.add_reader(connection, self._readable)

    @classmethod
    def start(cls, module: str, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Self:
        """Start the zygote *module*; call it from the main thread, whose end would end the zygote."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        process = subprocess.Popen(  # noqa: S603  our own interpreter
            [*module_command(module), str(theirs.fileno()), str(os.getpid()), *arguments],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={**module_environment(), **(environment or {})},
            start_new_session=True,
        )
        theirs.close()
        return cls(process, ours)

    @property
    def pid(self) -> int:
        """Return its pid."""
        return self._process.pid

    async def fork_with(self, descriptors: Sequence[int], made: Callable[[int, int], Child]) -> Child:
        """
        Return a new child, which gets *descriptors*; *made* makes it of its pid and a pidfd that it owns.

        Raises:
            ZygoteGone: it ended meanwhile, or does not answer and was ended.
        """
        assert len(descriptors) <= DESCRIPTORS_MAX
        async with self._forks:
            if self.gone.is_set():
                raise ZygoteGone
            forked: asyncio.Future[Child] = self._loop.create_future()
            self._forking.append((forked, made))
            try:
                socket.send_fds(self._connection, [FORK], descriptors)
                async with asyncio.timeout(STARTS_WITHIN_S):
                    return await forked
            except (OSError, TimeoutError, ZygoteGone) as error:
                self.kill()
                raise ZygoteGone from error

    def kill(self) -> None:
        """End the zygote and, by it, its children."""
        self._process.kill()

    async def close(self) -> None:
        """End the zygote with all its children, and wait until they are gone, for a bounded time."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)  # it kills them one by one before it ends
        try:
            async with asyncio.timeout(GONE_WITHIN_S):
                await self.gone.wait()
        except TimeoutError:
            self.kill()
            self._end()

    def _readable(self) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._connection, MESSAGE_BYTES_MAX, 1)
        except BlockingIOError:
            return
        except OSError:
            message, descriptors = b"", []
        if not message:
            self._end()
            return
        match REPORTS.decode(message):
            case Forked(pid=pid):
                forked, made = self._forking.pop(0)
                if forked.done():  # nobody waits for it any more
                    os.close(descriptors[0])
                else:
                    child = self._children[pid] = made(pid, descriptors[0])
                    forked.set_result(child)
            case ChildEnded(pid=pid, status=status):
                if (ended := self._children.pop(pid, None)) is not None:
                    ended.ended(status)

    def _end(self) -> None:
        if self.gone.is_set():
            return
        self.gone.set()
        self._loop.remove_reader(self._connection)
        self._connection.close()
        self._process.kill()
        self._loop.run_in_executor(None, self._process.wait)
        for forked, _ in self._forking:
            if not forked.done():
                forked.set_exception(ZygoteGone())
        for child in self._children.values():
            child.kill()  # they die with their zygote; this one may only have closed its socket
            child.ended(None)
        self._children.clear()
