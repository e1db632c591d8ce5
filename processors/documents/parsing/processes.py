"""
Parsing from outside: one child for one upload, whatever becomes of it.

Not a pool: a child that a document kills, or that waits for ever, is of no concern to the next one.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Self

import msgspec

from processors.children.frames import READ_BYTES, FrameBuffer, framed
from processors.children.processes import ZygoteGone, ZygoteProcess, cause_of
from processors.documents.parsing.messages import ANSWER, ANSWER_BYTES_MAX, ChildLimits, Question, Ready
from processors.documents.parsing.results import CONTENT_BYTES_MAX, Parsed, ParseFailed, Reason
from schemas.documents.kinds import KindMismatch, UnsupportedKind, UploadKind, kind_of

READER = "processors.documents.parsing.reading:read"
WAIT_S = 60.0  # for a child to come free
ATTEMPTS_MAX = 3  # to get a child, with a new zygote each
STARTED_WITHIN_S = 60.0  # a child, with its zygote
GONE_WITHIN_S = 5.0  # a child that was killed

_CHARSET = "charset="


class Parsers:
    """
    The children that read uploads, at most *limit* at once.

    Enter it from the main thread, whose end would end the zygote. Nothing that an upload does raises: whatever it is,
    it is one `ParseFailed`.
    """

    def __init__(
        self,
        *,
        limit: int,
        limits: ChildLimits | None = None,
        wait_s: float = WAIT_S,
        reader: str = READER,
        busy: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """
        Read by the function *reader*, given as MODULE:FUNCTION.

        *busy* is given the seconds of each upload, without its wait for a child to come free.
        """
        self._busy = busy
        self._limits = limits or ChildLimits()
        self._wait_s = wait_s
        self._reader = reader
        self._free = asyncio.Semaphore(limit)
        self._zygote: ZygoteProcess[_Child] | None = None
        self.is_without_network: bool | None = None  # None until a child has said so

    async def __aenter__(self) -> Self:
        self._zygote = self._started()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._zygote is not None:
            await self._zygote.close()

    async def parse(
        self, content: bytes, *, content_type: str | None = None, filename: str | None = None
    ) -> Parsed | ParseFailed:
        """Return the texts of an upload, or why there are none; cancelled, it kills the child."""
        kind = _kind(content, content_type, filename)
        if isinstance(kind, ParseFailed):
            return kind
        try:
            async with asyncio.timeout(self._wait_s):
                await self._free.acquire()
        except TimeoutError:
            return ParseFailed(reason=Reason.BUSY, detail=f"no child came free within {self._wait_s:.0f} s")
        began_s = monotonic()
        try:
            return await self._read(Question(kind=kind, content=content, charset=_charset(content_type)))
        finally:
            self._free.release()
            self._busy(monotonic() - began_s)

    async def _read(self, question: Question) -> Parsed | ParseFailed:
        try:
            child = await self._child()
        except ZygoteGone:
            return ParseFailed(reason=Reason.UNAVAILABLE, detail="no child can be started")
        try:
            async with asyncio.timeout(self._limits.wall_s):
                answer = await child.answer(question)
        except TimeoutError:
            return ParseFailed(reason=Reason.TIMEOUT, detail=f"not read within {self._limits.wall_s:.0f} s")
        finally:
            await child.close()
        if child.is_without_network is not None:
            self.is_without_network = child.is_without_network
        return answer

    async def _child(self) -> "_Child":
        for _ in range(ATTEMPTS_MAX):
            zygote = self._zygote
            if zygote is None or zygote.gone.is_set():
                zygote = self._zygote = self._started()
            ours, theirs = socket.socketpair()
            made: list[_Child] = []

            def make(pid: int, pidfd: int, ours: socket.socket = ours, made: list[_Child] = made) -> _Child:
                made.append(_Child(pid, pidfd, ours))
                return made[0]

            try:
                async with asyncio.timeout(STARTED_WITHIN_S):
                    return await zygote.fork_with([theirs.fileno()], make)
            except (ZygoteGone, TimeoutError):
                ours.close()
            except asyncio.CancelledError:
                if made:
                    await made[0].close()
                ours.close()
                raise
            finally:
                theirs.close()
        raise ZygoteGone

    def _started(self) -> "ZygoteProcess[_Child]":
        limits = msgspec.json.encode(self._limits).decode()
        # One arena, or threads' own would take the address space that is bounded.
        environment = {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        module = "processors.documents.parsing.zygote"
        return ZygoteProcess.start(module, [self._reader, limits], environment=environment)


class _Child:
    """A child, which reads one upload."""

    def __init__(self, pid: int, pidfd: int, connection: socket.socket) -> None:
        self.pid = pid
        self.is_without_network: bool | None = None
        self._pidfd = pidfd
        self._connection = connection
        connection.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._buffer = FrameBuffer(bytes_max=ANSWER_BYTES_MAX)
        self._gone = asyncio.Event()
        self._status: int | None = None

    async def answer(self, question: Question) -> Parsed | ParseFailed:
        """Return what the child says of an upload, or what became of it instead."""
        sending = asyncio.create_task(self._send(question))
        try:
            while received := await self._received():
                for body in self._buffer.feed(received):
                    match ANSWER.decode(body):
                        case Ready(is_without_network=said):
                            self.is_without_network = said
                        case answer:
                            return answer
        except (ValueError, msgspec.DecodeError) as error:
            return ParseFailed(reason=Reason.BAD_ANSWER, detail=f"the child answered what is no answer: {error}")
        finally:
            sending.cancel()
        try:
            async with asyncio.timeout(GONE_WITHIN_S):
                await self._gone.wait()
        except TimeoutError:
            return ParseFailed(reason=Reason.BAD_ANSWER, detail="the child closed its connection without an answer")
        return self._death()

    async def close(self) -> None:
        """End the process, and wait a bounded time until nothing of it is left."""
        self.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(GONE_WITHIN_S):
                await self._gone.wait()
        self._connection.close()

    def kill(self) -> None:
        """Kill the process; its zygote kills the group."""
        if not self._gone.is_set():
            with suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def ended(self, status: int | None) -> None:
        """Note that nothing of the process is left."""
        if not self._gone.is_set():
            self._status = status
            os.close(self._pidfd)
            self._gone.set()

    async def _send(self, question: Question) -> None:
        with suppress(OSError):  # it is gone, which the other side says
            await self._loop.sock_sendall(self._connection, framed(question))

    async def _received(self) -> bytes:
        try:
            return await self._loop.sock_recv(self._connection, READ_BYTES)
        except OSError:
            return b""

    def _death(self) -> ParseFailed:
        cause = cause_of(self._status)
        if self._status is None:
            return ParseFailed(reason=Reason.UNAVAILABLE, detail=f"the child {cause}")
        if os.WIFSIGNALED(self._status) and os.WTERMSIG(self._status) == signal.SIGXCPU:
            return ParseFailed(reason=Reason.TIMEOUT, detail="the upload takes more of a processor than a reader may")
        return ParseFailed(reason=Reason.CRASHED, detail=f"the child ended without an answer: {cause}")


def _kind(content: bytes, content_type: str | None, filename: str | None) -> UploadKind | ParseFailed:
    if len(content) > CONTENT_BYTES_MAX:
        detail = f"{len(content)} bytes; at most {CONTENT_BYTES_MAX} are read"
        return ParseFailed(reason=Reason.TOO_LARGE, detail=detail)
    try:
        return kind_of(content, content_type=content_type, filename=filename)
    except UnsupportedKind as error:
        return ParseFailed(reason=Reason.UNSUPPORTED_TYPE, detail=str(error))
    except KindMismatch as error:
        return ParseFailed(reason=Reason.TYPE_MISMATCH, detail=str(error))


def _charset(content_type: str | None) -> str | None:
    """Return the character set of a content type."""
    parameters = (content_type or "").split(";")[1:]
    return next(
        (
            each.strip()[len(_CHARSET) :].strip("\"' ")
            for each in parameters
            if each.strip().lower().startswith(_CHARSET)
        ),
        None,
    )
