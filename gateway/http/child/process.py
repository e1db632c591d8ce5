"""The gateway's side of its body parser: sends tasks, hands out results, and restarts the process when it exits."""

import asyncio
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from typing import Any, Self

import msgspec
import structlog

from gateway.errors import QueueFull
from gateway.http.child.frames import NUMBERS, Frame, FrameKind, frame, read_frame
from gateway.http.child.parsing import BodyTask
from gateway.http.child.refusals import Refusal
from schemas.access.credentials import Credentials
from schemas.process.interpreter import module_command, module_environment
from schemas.process.telemetry import JUDGE_ENDED, JUDGE_WAITING, Telemetry

COMMAND = module_command("gateway.body_worker")
PIPE_BYTES = 1024 * 1024  # read ahead
WAITING_BYTES_MAX = 64 * 1024 * 1024  # of all bodies that are not parsed yet; they are held once more in the pipe
RESTART_AFTER_S = 0.5
STOPS_WITHIN_S = 2.0

log = structlog.get_logger()

_REFUSAL = msgspec.msgpack.Decoder(Refusal)


class ParserProcess:
    """`BodyParser` in a child process; an async context manager."""

    def __init__(
        self,
        results: Mapping[type[Any], type[Any]],
        telemetry: Telemetry,
        *,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
    ) -> None:
        """Prepare to parse tasks whose types are keys of *results*, which has the type of each result."""
        self._decoders = {task: msgspec.msgpack.Decoder(result) for task, result in results.items()}
        self._waiting_bytes_max = waiting_bytes_max
        self._ended = telemetry[JUDGE_ENDED]
        self._waiting_bytes = 0
        telemetry[JUDGE_WAITING].set_function(lambda: self._waiting_bytes)
        self._numbers = count()
        self._pending: dict[int, asyncio.Future[Frame]] = {}
        self._sent: Credentials | None = None  # which the process has
        self._process: Process | None = None
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Start the process; tasks are sent from now on, and answered once it is up."""
        await self._start()
        self._task = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the process; no more tasks come."""
        async with self._starting:  # a start that is cut short would leave its process behind
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if (process := self._process) is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOPS_WITHIN_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        with suppress(OSError):  # what it was still being told has nobody to read it
            await process.stdin.wait_closed()

    @property
    def pid(self) -> int | None:
        """Return the process's id; None while there is none."""
        return self._process.pid if self._process is not None else None

    async def parse(self, task: BodyTask[Any], credentials: Credentials) -> Any:
        """See `BodyParser.parse`."""
        body_bytes = len(task.body.received)
        if self._waiting_bytes + body_bytes > self._waiting_bytes_max:
            raise QueueFull("too many large bodies are waiting; nothing was written")
        number = next(self._numbers) % NUMBERS
        answer = self._pending[number] = asyncio.get_running_loop().create_future()
        self._waiting_bytes += body_bytes
        try:
            self._send(task, credentials, number)
            received = await answer
        finally:
            self._waiting_bytes -= body_bytes
            del self._pending[number]
        if received.kind is FrameKind.REFUSAL:
            raise _REFUSAL.decode(received.value).error()
        return self._decoders[type(task)].decode(received.value)

    def _send(self, task: Any, credentials: Credentials, number: int) -> None:
        if self._process is None:
            raise QueueFull("the body parser is starting; nothing was written")
        assert self._process.stdin is not None
        if self._process.stdin.is_closing():  # it has just ended, and nobody has noticed yet
            raise QueueFull("the body parser has exited; nothing was written")
        if credentials is not self._sent:
            self._process.stdin.write(frame(FrameKind.CREDENTIALS, credentials))
            self._sent = credentials
        self._process.stdin.write(frame(FrameKind.TASK, task, number=number))

    async def _start(self) -> None:
        async with self._starting:
            self._sent = None
            self._process = await asyncio.create_subprocess_exec(
                *COMMAND, stdin=PIPE, stdout=PIPE, limit=PIPE_BYTES, env=module_environment()
            )

    async def _keep(self) -> None:
        while True:
            if (process := self._process) is not None:
                await self._hand_out(process)
                with suppress(ProcessLookupError):
                    process.kill()  # whoever answers no more is of no use
                exit_code = await process.wait()  # until then it is the gateway's, to be waited for at its end
                self._process = None
                self._give_up()
                self._ended.inc()
                log.error("body parser exited, restarting", exit_code=exit_code)
            await asyncio.sleep(RESTART_AFTER_S)
            with suppress(OSError):  # no memory or no process to be had: try again
                await self._start()

    async def _hand_out(self, process: Process) -> None:
        assert process.stdout is not None
        while (received := await read_frame(process.stdout)) is not None:
            answer = self._pending.get(received.number)
            if answer is not None and not answer.done():  # else its client is gone
                answer.set_result(received)

    def _give_up(self) -> None:
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(QueueFull("the body parser has exited; nothing was written"))
