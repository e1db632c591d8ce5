"""The executor's side of its zygotes and children."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, Self

import msgspec
import structlog

from processors.children.frames import FrameBuffer, framed
from processors.children.processes import ZygoteGone, ZygoteProcess, cause_of
from processors.jobs.children.child import STOP
from processors.jobs.children.messages import OF_CHILD, Ended, Interrupt, Progress, Run
from processors.jobs.children.output import Output

READ_BYTES = 64 * 1024
DRAINED_BYTES_MAX = 2 * 1024 * 1024  # after the end of a task: what its pipes hold, and more than they can

log = structlog.get_logger()


class ChildDied(Exception):
    """A child ended without an answer."""

    def __init__(self, status: int | None) -> None:
        """Carry its exit status as of waitpid; None: it ended with its zygote."""
        self.status = status
        super().__init__(cause_of(status))


class _Pipes(NamedTuple):
    work: socket.socket
    control: socket.socket
    output: int
    errors: int


class TaskZygote(ZygoteProcess["ChildProcess"]):
    """A zygote of tasks, as the executor sees it."""

    @classmethod
    def started(cls, modules: Sequence[str], *, dsn: str) -> Self:
        """Start a zygote that loads *modules*; call it from the main thread, whose end would end the zygote."""
        # Numeric libraries in one child must not take the processors of the others.
        environment = {
            "TIDEGATE_TASKS_POSTGRES": dsn,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "2",
        }
        return cls.start("processors.jobs.children.zygote", modules, environment=environment)

    async def fork(self) -> "ChildProcess":
        """
        Return a new child.

        Raises:
            ZygoteGone: it ended meanwhile, or does not answer and was ended.
        """
        work, their_work = socket.socketpair()
        control, their_control = socket.socketpair()
        output, their_output = os.pipe()
        errors, their_errors = os.pipe()
        pipes = _Pipes(work, control, output, errors)
        try:
            return await self.fork_with(
                [their_work.fileno(), their_control.fileno(), their_output, their_errors],
                lambda pid, pidfd: ChildProcess(pid, pidfd, pipes),
            )
        except ZygoteGone:
            _close(pipes)
            raise
        finally:
            their_work.close()
            their_control.close()
            os.close(their_output)
            os.close(their_errors)


class ChildProcess:
    """A child, as the executor sees it: runs one task at a time."""

    def __init__(self, pid: int, pidfd: int, pipes: _Pipes) -> None:
        """Talk to the process *pid* by *pipes*."""
        self.pid = pid
        self.runs = 0
        self.is_retiring = False
        self._pidfd = pidfd
        self._pipes = pipes
        self._loop = asyncio.get_running_loop()
        self._buffer = FrameBuffer()
        self._answer: asyncio.Future[Ended] | None = None
        self._attempt_id = ""
        self._output = Output()
        self._progress: Callable[[Progress], None] = lambda _progress: None
        self.died = asyncio.Event()
        self._status: int | None = None
        for descriptor in (pipes.output, pipes.errors):
            os.set_blocking(descriptor, False)
        pipes.work.setblocking(False)
        pipes.control.setblocking(False)
        self._loop.add_reader(pipes.work, self._readable)
        self._loop.add_reader(pipes.output, self._read_output, pipes.output, "stdout")
        self._loop.add_reader(pipes.errors, self._read_output, pipes.errors, "stderr")

    async def run(self, run: Run, *, output: Output, progress: Callable[[Progress], None]) -> Ended:
        """
        Return the end of a task; what it writes goes to *output*, and each progress to *progress*.

        Raises:
            ChildDied: it ended without an answer; nothing of it is left.
        """
        self._answer = self._loop.create_future()
        self._attempt_id, self._output, self._progress = run.attempt_id, output, progress
        self.runs += 1
        try:
            if self.died.is_set():
                raise ChildDied(self._status)
            frame = framed(run)
            try:
                sent = self._pipes.work.send(frame)
            except (BlockingIOError, OSError):
                sent = 0
            rest: asyncio.Task[None] | None = None
            if sent < len(frame):  # a large one, or the child is gone, which is known soon
                rest = asyncio.create_task(self._send(frame[sent:]))
            try:
                ended = await self._answer  # not the rest first: a child that is killed never takes it
            finally:
                if rest is not None:
                    rest.cancel()
        finally:
            self._answer = None
        self._drain()
        self.is_retiring = self.is_retiring or ended.is_retiring
        return ended

    async def _send(self, rest: bytes) -> None:
        with suppress(OSError):
            await self._loop.sock_sendall(self._pipes.work, rest)

    def interrupt(self, attempt_id: str, kind: Interrupt) -> None:
        """Stop the task of that attempt, if it still runs; the child ignores what is not meant for its attempt."""
        if self._answer is None or self._attempt_id != attempt_id or self.died.is_set():
            return
        with suppress(OSError):
            self._pipes.control.send(framed(kind))
            signal.pidfd_send_signal(self._pidfd, STOP)

    def kill(self) -> None:
        """Kill the process; its zygote kills what it has started. It takes no more tasks, even if it has answered."""
        self.is_retiring = True
        if not self.died.is_set():
            with suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def retire(self) -> None:
        """Let the process end: it has no task."""
        with suppress(OSError):
            self._pipes.work.shutdown(socket.SHUT_WR)

    def ended(self, status: int | None) -> None:
        """Note that nothing of the process is left."""
        if self.died.is_set():
            return
        self._status = status
        while self._read_frames():  # an answer that came before the end counts
            pass
        self._drain()
        self.died.set()
        for reader in (self._pipes.work, self._pipes.output, self._pipes.errors):
            self._loop.remove_reader(reader)
        self._loop.remove_writer(self._pipes.work)
        _close(self._pipes)
        os.close(self._pidfd)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ChildDied(status))

    def _readable(self) -> None:
        self._read_frames()

    def _read_frames(self) -> bool:
        """Read some of what the child sent; return False if there was nothing."""
        try:
            received = self._pipes.work.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            received = b""
        if not received:
            self._loop.remove_reader(self._pipes.work)  # its zygote says the rest
            return False
        try:
            for body in self._buffer.feed(received):
                self._received(OF_CHILD.decode(body))
        except (ValueError, msgspec.DecodeError):
            log.exception("a child sent what is no frame of ours; it is killed", pid=self.pid)
            self.kill()
            return False
        return True

    def _received(self, message: Progress | Ended) -> None:
        if self._answer is None or self._answer.done() or message.attempt_id != self._attempt_id:
            return
        if isinstance(message, Ended):
            self._answer.set_result(message)
        else:
            self._progress(message)

    def _read_output(self, descriptor: int, stream: str) -> int:
        try:
            written = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            written = b""
        if not written:
            self._loop.remove_reader(descriptor)
            return 0
        self._output.add(stream, written)
        return len(written)

    def _drain(self) -> None:
        """Read what a task wrote before its end, unless the process has ended as well: then that was read before."""
        if self.died.is_set():
            return  # the descriptors are closed, and their numbers may be another pipe's by now
        for descriptor, stream in ((self._pipes.output, "stdout"), (self._pipes.errors, "stderr")):
            drained = 0
            while drained < DRAINED_BYTES_MAX and (count := self._read_output(descriptor, stream)):
                drained += count


def _close(pipes: _Pipes) -> None:
    pipes.work.close()
    pipes.control.close()
    for descriptor in (pipes.output, pipes.errors):
        with suppress(OSError):
            os.close(descriptor)
