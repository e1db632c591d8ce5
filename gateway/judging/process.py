"""The gateway's side of its judging process: asks, hands out the answers, and starts another where one has ended."""

import asyncio
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from typing import Any, Self

import msgspec
import structlog

from gateway.errors import QueueFull
from gateway.intake.refusals import Refusal
from gateway.judging.frames import NUMBERS, Frame, Kind, frame, read_frame
from gateway.judging.questions import VERDICTS, Question
from schemas.access.credentials import Credentials
from schemas.process.interpreter import module_command, module_environment
from schemas.process.telemetry import JUDGE_ENDED, JUDGE_WAITING, Telemetry

COMMAND = module_command("gateway.judging")
PIPE_BYTES = 1024 * 1024  # read ahead
WAITING_BYTES_MAX = 64 * 1024 * 1024  # of all bodies that are not judged yet; they are held once more in the pipe
RESTART_AFTER_S = 0.5
STOPS_WITHIN_S = 2.0

log = structlog.get_logger()

_DECODERS: Mapping[type[Any], msgspec.msgpack.Decoder[Any]] = {
    question: msgspec.msgpack.Decoder(verdict) for question, verdict in VERDICTS.items()
}
_REFUSAL = msgspec.msgpack.Decoder(Refusal)


class JudgeProcess:
    """Judges in a process of its own; an async context manager, and a `Judge`."""

    def __init__(self, telemetry: Telemetry, *, waiting_bytes_max: int = WAITING_BYTES_MAX) -> None:
        """Prepare; the process starts with the context."""
        self._waiting_bytes_max = waiting_bytes_max
        self._ended = telemetry[JUDGE_ENDED]
        self._waiting_bytes = 0
        telemetry[JUDGE_WAITING].set_function(lambda: self._waiting_bytes)
        self._numbers = count()
        self._asked: dict[int, asyncio.Future[Frame]] = {}
        self._told: Credentials | None = None  # what the process judges by
        self._process: Process | None = None
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Start the process; it is asked from now on, and answers once it is up."""
        await self._start()
        self._task = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the process; nobody asks any more."""
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
        """The process's id; None while there is none."""
        return self._process.pid if self._process is not None else None

    async def judge(self, question: Question[Any], credentials: Credentials) -> Any:
        """See `Judge.judge`."""
        body_bytes = len(question.body.received)
        if self._waiting_bytes + body_bytes > self._waiting_bytes_max:
            raise QueueFull("too many large bodies wait to be judged; nothing was written")
        number = next(self._numbers) % NUMBERS
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._waiting_bytes += body_bytes
        try:
            self._ask(question, credentials, number)
            told = await answer
        finally:
            self._waiting_bytes -= body_bytes
            del self._asked[number]
        if told.kind is Kind.REFUSAL:
            raise _REFUSAL.decode(told.value).error()
        return _DECODERS[type(question)].decode(told.value)

    def _ask(self, question: Any, credentials: Credentials, number: int) -> None:
        if self._process is None:
            raise QueueFull("what judges large bodies is being started; nothing was written")
        assert self._process.stdin is not None
        if self._process.stdin.is_closing():  # it has just ended, and nobody has noticed yet
            raise QueueFull("what judges large bodies has ended; nothing was written")
        if credentials is not self._told:
            self._process.stdin.write(frame(Kind.CREDENTIALS, credentials))
            self._told = credentials
        self._process.stdin.write(frame(Kind.QUESTION, question, number=number))

    async def _start(self) -> None:
        async with self._starting:
            self._told = None
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
                log.error("what judges large bodies has ended; starting it again", exit_code=exit_code)
            await asyncio.sleep(RESTART_AFTER_S)
            with suppress(OSError):  # no memory or no process to be had: try again
                await self._start()

    async def _hand_out(self, process: Process) -> None:
        assert process.stdout is not None
        while (told := await read_frame(process.stdout)) is not None:
            answer = self._asked.get(told.number)
            if answer is not None and not answer.done():  # else its client is gone
                answer.set_result(told)

    def _give_up(self) -> None:
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(QueueFull("what was to judge the body has ended; nothing was written"))
