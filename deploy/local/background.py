"""Go on in the background: the command returns once its work is ready."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGTERM

from deploy.errors import Failed
from deploy.local.logs import last_line, open_log

READY = b"\0"
READ_BYTES_MAX = 4096

Say = Callable[[str], None]


def detach(log: Path, work: Callable[[Say, Callable[[], None]], None]) -> None:
    """
    Run *work* in a process of its own that writes to *log*; return once it calls its second argument.

    *work* says what happens through its first argument: to the log, and until it is ready to this terminal too.

    Raises:
        Failed: it ended before it was ready; the text is the last line of its log.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _work_alone(log, writing, work)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb", buffering=0) as said:
            while part := said.read(READ_BYTES_MAX):
                sys.stdout.write(part.removesuffix(READY).decode(errors="replace"))
                sys.stdout.flush()
                if part.endswith(READY):
                    return
    except KeyboardInterrupt:
        os.kill(pid, SIGTERM)
    os.waitpid(pid, 0)
    raise Failed(last_line(log))


def _work_alone(log: Path, writing: int, work: Callable[[Say, Callable[[], None]], None]) -> None:
    os.setsid()
    with open_log(log) as file, Path(os.devnull).open() as nothing:
        for descriptor, source in ((0, nothing), (1, file), (2, file)):
            os.dup2(source.fileno(), descriptor)
    terminal = os.fdopen(writing, "wb", buffering=0)

    def say(line: str) -> None:
        print(line, flush=True)
        with suppress(BrokenPipeError):  # nobody waits any more
            if not terminal.closed:
                terminal.write(f"{line}\n".encode())

    def ready() -> None:
        with suppress(BrokenPipeError), terminal:
            terminal.write(READY)

    work(say, ready)
    sys.exit(0)
