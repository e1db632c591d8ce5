"""Work that goes on in the background: the command returns once it is ready, or with the reason why it is not."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGTERM, Signals
from typing import BinaryIO

import msgspec

from deploy.errors import CommandFailed
from deploy.local.logs import cause, open_log
from schemas.process.settings import SettingsInvalid

EXIT_USAGE = 2

Say = Callable[[str], None]


class Line(msgspec.Struct, frozen=True, tag="line"):
    """A progress message for this terminal, until the work is ready."""

    text: str


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The work is ready."""


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The work ended before it was ready."""

    reason: str
    exit_code: int


Message = Line | Ready | Ended


def detach(log: Path, work: Callable[[Say, Callable[[], None]], None]) -> None:
    """
    Run *work* in a process of its own that writes to *log*; return once it calls its second argument.

    *work* says what happens through its first argument: to the log, and until it is ready to this terminal too.

    Raises:
        CommandFailed: it ended before it was ready; the text says why and where the log is.
    """
    with open_log(log) as file:
        start_bytes = file.tell()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _work_alone(log, writing, work)
    os.close(writing)
    ended: Ended | None = None
    try:
        with os.fdopen(reading, "rb") as pipe:
            for message in _messages(pipe):
                if isinstance(message, Ready):
                    return
                if isinstance(message, Line):
                    print(message.text, flush=True)
                else:
                    ended = message
    except KeyboardInterrupt:
        os.kill(pid, SIGTERM)
        ended = Ended("interrupted; what had been started was stopped", CommandFailed.exit_code)
    _, status = os.waitpid(pid, 0)
    if ended is None:
        code = os.waitstatus_to_exitcode(status)
        how = f"was ended by {Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        ended = Ended(
            f"the process in the background {how} before it was ready: {cause(log, since_bytes=start_bytes)}",
            CommandFailed.exit_code,
        )
    place = "" if "(log: " in ended.reason else f" (log: {log})"
    failure = CommandFailed(f"{ended.reason}{place}")
    failure.exit_code = ended.exit_code or CommandFailed.exit_code  # stopped by someone else, and so not started
    raise failure


def _messages(pipe: BinaryIO) -> Iterator[Message]:
    for line in pipe:
        yield msgspec.json.decode(line, type=Message)


def _work_alone(log: Path, writing: int, work: Callable[[Say, Callable[[], None]], None]) -> None:
    os.setsid()
    with open_log(log) as file, Path(os.devnull).open() as nothing:
        for descriptor, source in ((0, nothing), (1, file), (2, file)):
            os.dup2(source.fileno(), descriptor)
    terminal = os.fdopen(writing, "wb", buffering=0)

    def tell(message: Message) -> None:
        with suppress(BrokenPipeError):  # nobody waits any more
            if not terminal.closed:
                terminal.write(msgspec.json.encode(message) + b"\n")

    def say(line: str) -> None:
        print(stamped(line), flush=True)
        tell(Line(line))

    def ready() -> None:
        tell(Ready())
        terminal.close()

    try:
        work(say, ready)
    except (CommandFailed, SettingsInvalid) as error:
        ended = Ended(str(error), error.exit_code if isinstance(error, CommandFailed) else EXIT_USAGE)
    except Exception as error:  # noqa: BLE001  whatever it is, someone waits for the reason
        traceback.print_exc()
        ended = Ended(f"{type(error).__name__}: {error}", CommandFailed.exit_code)
    else:
        ended = Ended("stopped before it was ready", 0)
    if ended.exit_code:
        print(stamped(ended.reason), flush=True)
    tell(ended)
    sys.stderr.flush()
    os._exit(ended.exit_code)


def stamped(line: str) -> str:
    """Return *line* with the time before it; a JSON document says its own."""
    return line if line.startswith("{") else f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {line}"
