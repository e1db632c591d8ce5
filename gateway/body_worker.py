"""
`python -m gateway.body_worker`: parses the bodies that come on its standard input, until that ends.

Started by a gateway, and gone with it, however the gateway ends: its end closes the pipe.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import or_
from typing import Any

import msgspec
import structlog

from gateway.documents.parsing import tasks as documents
from gateway.events.parsing import tasks as events
from gateway.http.child.frames import Frame, FrameKind, frame, read_frame
from gateway.http.child.parsing import ThreadParser, parse_body
from gateway.http.child.refusals import Refusal
from gateway.jobs.parsing import tasks as jobs
from gateway.runs.parsing import tasks as runs
from schemas.access.credentials import Credentials
from schemas.process.logs import log_as_json

PIPE_BYTES = 1024 * 1024  # read ahead
# Parsed one after the other, without a thread: batches go through a quarter faster than on threads that take the
# interpreter from each other. The worst of this size hold up the next for a fifth of a second, as they do on a thread.
WITHOUT_THREAD_BYTES_MAX = 256 * 1024

# For the larger ones: more would take the interpreter from each other, and each holds a body many times over.
THREADS = 2

log = structlog.get_logger()

BODY_TASKS: Mapping[type[Any], type[Any]] = {
    **runs.BODY_TASKS,
    **events.BODY_TASKS,
    **jobs.BODY_TASKS,
    **documents.BODY_TASKS,
}
"""The tasks of every feature, and the type of each result."""

_CREDENTIALS = msgspec.msgpack.Decoder(Credentials)
_TASK: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(reduce(or_, BODY_TASKS))


async def serve() -> None:
    """Parse until the gateway is gone."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "parser"))
    tasks, results = await _pipes()
    parser = ThreadParser()
    credentials: Credentials | None = None
    answering: set[asyncio.Task[None]] = set()  # the gateway bounds what waits
    while (received := await read_frame(tasks)) is not None:
        if received.kind is FrameKind.CREDENTIALS:
            credentials = _CREDENTIALS.decode(received.value)
            continue
        assert credentials is not None
        task = asyncio.create_task(_answer(received, parser, credentials, results))
        answering.add(task)
        task.add_done_callback(answering.discard)


async def _answer(
    received: Frame, parser: ThreadParser, credentials: Credentials, results: asyncio.StreamWriter
) -> None:
    try:
        parsed_as = _TASK.decode(received.value)
        result = await parse_body(parsed_as, credentials, parser=parser, small_bytes_max=WITHOUT_THREAD_BYTES_MAX)
        answer = frame(FrameKind.RESULT, result, number=received.number)
    except Exception as error:  # the gateway decides what each of them comes to
        refusal = Refusal.of(error)
        if not refusal.is_known:
            log.exception("body not parsed")
        answer = frame(FrameKind.REFUSAL, refusal, number=received.number)
    results.write(answer)


async def _pipes() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(PIPE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


def main() -> None:
    """Serve; signals are for the gateway, whose end ends this process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    log_as_json("INFO")
    asyncio.new_event_loop().run_until_complete(serve())
    os._exit(0)  # at once: nobody waits for what threads still parse


if __name__ == "__main__":
    main()
