"""The log files of the stack's processes: `<dir>/logs/NAME.log`, and what grew too large in `NAME.log.1`."""

import json
import os
import re
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from time import sleep
from typing import BinaryIO

FOLDER = "logs"
LOG_BYTES_MAX = 10 * 1024 * 1024
TAIL_BYTES = 32 * 1024  # a Java program ends its log with many lines of a stack
INSIDE_TRACE = re.compile(r"\s|Traceback ")  # Java's and Python's lines that follow or precede an error
ERROR = re.compile(r"\b(FATAL|PANIC|ERROR|CRITICAL)\b|\b\w*(Error|Exception)\b")
FOLLOW_POLL_S = 0.2


def path(folder: Path, name: str) -> Path:
    """Return the log of the process called *name*; the supervisor's own is `up`."""
    return folder / "up.log" if name == "up" else folder / FOLDER / f"{name}.log"


def open_log(path: Path) -> BinaryIO:
    """Open *path* for appending; one that has grown large becomes `<path>.1` first."""
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("ab")


def cause(path: Path, *, since_bytes: int = 0) -> str:
    """
    Return why the process that wrote the log at *path* ended, in one line: its last error, else its last line.

    What stands before *since_bytes* is of processes before it.
    """
    lines = [line for line in _tail(path, since_bytes) if line.strip() and not INSIDE_TRACE.match(line)]
    said = [_reason(line) for line in lines]
    found = next((text for text, is_error in reversed(said) if is_error), None)
    return found or (said[-1][0] if said else "it logged nothing")


def _reason(line: str) -> tuple[str, bool]:
    """Return what *line* says, and whether it is an error."""
    try:
        document = json.loads(line)
    except ValueError:
        return line.strip(), ERROR.search(line) is not None
    if not isinstance(document, dict):
        return line.strip(), False
    parts = [document.get(name) for name in ("event", "reason", "error")]
    parts += [f"{failure.get('exc_type')}: {failure.get('exc_value')}" for failure in document.get("exception") or ()]
    return ": ".join(str(part) for part in parts if part), document.get("level") in ("error", "critical")


def _tail(path: Path, since_bytes: int = 0) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, since_bytes, path.stat().st_size - TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:  # someone has deleted it
        return []


def read(path: Path, *, lines_max: int, follow: bool) -> Generator[str, None, None]:
    """Yield the last lines of *path*; with *follow* also what is written from then on, over rotations, without end."""
    file = path.open(errors="replace")
    try:
        yield "".join(deque(file, lines_max))
        while follow:
            if text := file.read():
                yield text
            elif path.exists() and path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                file.close()
                file = path.open(errors="replace")
            else:
                sleep(FOLLOW_POLL_S)
    finally:
        file.close()


def as_documents(texts: Iterable[str]) -> Iterator[str]:
    """Yield each line of *texts* as a JSON object: any other line becomes `{"message": ...}`."""
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        yield from (_document(line) + "\n" for line in lines if line.strip())
    if rest.strip():
        yield _document(rest) + "\n"


def _document(line: str) -> str:
    try:
        if isinstance(json.loads(line), dict):
            return line
    except ValueError:
        pass
    return json.dumps({"message": line})
