"""
The output of one attempt: bounded, each line with its time and stream.

Secrets are recognised within a line, so a line is shown when it is whole.
"""

import re
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from schemas.process.redaction import without_secrets

HEAD_BYTES_MAX = 256 * 1024
TAIL_BYTES_MAX = 768 * 1024
LINE_CHARACTERS_MAX = 8 * 1024
LINE_BYTES_MAX = 4 * LINE_CHARACTERS_MAX
PIECE_BYTES_MAX = 8 * 1024  # up to which what comes in small writes is put together
TOGETHER = timedelta(milliseconds=50)
LIVE_BYTES_MAX = 64 * 1024  # of one report; who watches misses what is beyond it, and finds it in the log
LAST_LINES = 20  # shown with a crash
_LINE_END = re.compile(rb"\r?\n|\r")

Piece = tuple[datetime, str, bytes]  # when it was read, the stream, what it is


class Output:
    """The head and the tail of an attempt's output."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._head: list[Piece] = []
        self._tail: deque[Piece] = deque()
        self._head_bytes = self._tail_bytes = self._cut_bytes = 0
        self._live: list[Piece] = []
        self._live_bytes = 0

    def add(self, stream: str, written: bytes) -> None:
        """Keep what was read from *stream*; of too much, the middle is dropped."""
        piece = datetime.now(UTC), stream, written
        if self._live_bytes < LIVE_BYTES_MAX:
            _append(self._live, piece)
            self._live_bytes += len(written)
        if self._head_bytes < HEAD_BYTES_MAX:
            _append(self._head, piece)
            self._head_bytes += len(written)
            return
        _append(self._tail, piece)
        self._tail_bytes += len(written)
        while self._tail_bytes > TAIL_BYTES_MAX and len(self._tail) > 1:
            dropped = len(self._tail.popleft()[2])
            self._tail_bytes -= dropped
            self._cut_bytes += dropped

    def text(self) -> str | None:
        """Return what is kept, a line for each line, secrets masked; None if nothing was written."""
        if not self._head:
            return None
        if not self._cut_bytes:
            return "\n".join(_lines([*self._head, *self._tail]))
        cut = f"... {self._cut_bytes} bytes are not kept ..."
        return "\n".join([*_lines(self._head), cut, *_lines(_from_line_ends(self._tail))])

    def last_lines(self) -> str:
        """Return the last lines, for an error that has no more to say."""
        return "\n".join(_lines([*self._head[-LAST_LINES:], *list(self._tail)[-LAST_LINES:]])[-LAST_LINES:])

    def take_live(self) -> str | None:
        """Return the lines that were ended since the last call, for who watches; None if none was."""
        lines, open_lines = _split(self._live)
        self._live = [piece for piece in open_lines if len(piece[2]) < LINE_BYTES_MAX]
        self._live_bytes = sum(len(piece[2]) for piece in self._live)
        lines += [_line(*piece) for piece in open_lines if len(piece[2]) >= LINE_BYTES_MAX]
        return "\n".join(lines)[:LIVE_BYTES_MAX] or None


def _append(pieces: list[Piece] | deque[Piece], piece: Piece) -> None:
    """Add *piece*, to the last one where that is small and of the same moment: many small ones would take long."""
    if pieces:
        at, stream, written = pieces[-1]
        if stream == piece[1] and len(written) < PIECE_BYTES_MAX and piece[0] - at < TOGETHER:
            pieces[-1] = at, stream, written + piece[2]
            return
    pieces.append(piece)


def _from_line_ends(pieces: Iterable[Piece]) -> list[Piece]:
    """Return *pieces* without the rest of a line that each stream begins with: it may be the rest of a secret."""
    found: list[Piece] = []
    begun: set[str] = set()
    for at, stream, written in pieces:
        end = None if stream in begun else _LINE_END.search(written)
        begun.add(stream)
        found.append((at, stream, written[end.end() :] if end else written))
    return found


def _lines(pieces: Iterable[Piece]) -> list[str]:
    lines, open_lines = _split(pieces)
    return lines + [_line(*piece) for piece in open_lines]


def _split(pieces: Iterable[Piece]) -> tuple[list[str], list[Piece]]:
    """Return the whole lines of *pieces*, and of each stream what no line end has followed yet."""
    lines: list[str] = []
    open_lines: dict[str, tuple[datetime, bytes]] = {}  # by stream
    for at, stream, written in pieces:
        *whole, rest = _LINE_END.split(written)
        for line in whole:
            begun_at, begun = open_lines.pop(stream, (at, b""))
            lines.append(_line(begun_at, stream, begun + line))
        if rest:
            begun_at, begun = open_lines.get(stream, (at, b""))
            open_lines[stream] = begun_at, begun + rest if len(begun) < LINE_BYTES_MAX else begun
    return lines, [(at, stream, rest) for stream, (at, rest) in open_lines.items()]


def _line(at: datetime, stream: str, written: bytes) -> str:
    text = written[:LINE_BYTES_MAX].decode("utf-8", "backslashreplace")[:LINE_CHARACTERS_MAX]
    moment = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"{moment} {stream} {without_secrets(text)}"
