"""
`python -m gateway.judging`: answers the questions on its standard input, until that ends.

Started by a gateway, and gone with it, however the gateway ends: its end closes the pipe.
"""

import asyncio
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import msgspec
import structlog

from gateway.intake.refusals import Refusal
from gateway.judging.frames import Frame, Kind, frame, read_frame
from gateway.judging.judge import ThreadJudge, judged
from gateway.judging.questions import AnyQuestion
from schemas.access.credentials import Credentials
from schemas.process.logs import log_as_json

PIPE_BYTES = 1024 * 1024  # read ahead
# Judged one after the other, without a thread: batches go through a quarter faster than on threads that take the
# interpreter from each other. The worst of this size hold up the next for a fifth of a second, as they do on a thread.
WITHOUT_THREAD_BYTES_MAX = 256 * 1024

# For the larger ones: more would take the interpreter from each other, and each holds a body many times over.
THREADS = 2

log = structlog.get_logger()

_CREDENTIALS = msgspec.msgpack.Decoder(Credentials)
_QUESTION: msgspec.msgpack.Decoder[AnyQuestion] = msgspec.msgpack.Decoder(AnyQuestion)


async def serve() -> None:
    """Answer until there is nobody who asks."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "judge"))
    questions, answers = await _pipes()
    judge = ThreadJudge()
    credentials: Credentials | None = None
    answering: set[asyncio.Task[None]] = set()  # the gateway bounds what waits
    while (asked := await read_frame(questions)) is not None:
        if asked.kind is Kind.CREDENTIALS:
            credentials = _CREDENTIALS.decode(asked.value)
            continue
        assert credentials is not None
        task = asyncio.create_task(_answer(asked, judge, credentials, answers))
        answering.add(task)
        task.add_done_callback(answering.discard)


async def _answer(asked: Frame, judge: ThreadJudge, credentials: Credentials, answers: asyncio.StreamWriter) -> None:
    try:
        question = _QUESTION.decode(asked.value)
        verdict = await judged(question, credentials, otherwise=judge, small_bytes_max=WITHOUT_THREAD_BYTES_MAX)
        told = frame(Kind.VERDICT, verdict, number=asked.number)
    except Exception as error:  # the gateway decides what each of them comes to
        refusal = Refusal.of(error)
        if not refusal.is_known:
            log.exception("a body could not be judged")
        told = frame(Kind.REFUSAL, refusal, number=asked.number)
    answers.write(told)


async def _pipes() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(PIPE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


def main() -> None:
    """Serve; how the gateway is told to stop is none of its concern."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    log_as_json("INFO")
    asyncio.new_event_loop().run_until_complete(serve())
    os._exit(0)  # at once: what threads still judge is asked by nobody any more


if __name__ == "__main__":
    main()
