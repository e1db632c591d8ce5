"""
The content of an archived object: lines in zstd frames, then the footer; written piece by piece, and read with proof.

Frames are independent of each other, and of bounded size: any tool reads them one after another.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from typing import IO

from schemas.archive import lines
from schemas.archive.footer import (
    FRAME_HEAD,
    SKIPPABLE_MAGIC,
    Footer,
    FooterInvalid,
    frame,
    from_content,
    subjects_text,
)
from schemas.archive.lines import Line
from schemas.archive.names import ObjectName

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVEL = 3
FRAME_TEXT_BYTES = 1024 * 1024  # of lines; a frame ends with the line that passes it
_PIECE_BYTES = 1024 * 1024  # that is unpacked at once


class ObjectDamaged(ValueError):
    """The object is not what was written: its text says in which way."""


class ObjectWriter:
    """A writer of one object's content to a file."""

    def __init__(self, out: IO[bytes], name: ObjectName) -> None:
        """Write the object called *name* to *out*, which is empty."""
        self._out = out
        self._name = name
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._text_bytes = 0
        self._digest = hashlib.sha256()
        self._packed_digest = hashlib.sha256()
        self._subjects: set[bytes] = set()
        self._first_ms: int | None = None
        self._last_ms = 0
        self.count = 0
        self.next = name.first
        self.size_bytes = 0  # of the frames that are written

    def add(self, line: bytes, *, offset: int, timestamp: int, subject: bytes | None = None) -> None:
        """Append the *line* of the record at *offset*, which follows those before; *subject* is its user's digest."""
        self._pending.append(line)
        self._pending_bytes += len(line)
        self.count += 1
        self.next = offset + 1
        if self._first_ms is None:
            self._first_ms = self._last_ms = timestamp
        elif timestamp < self._first_ms:
            self._first_ms = timestamp
        elif timestamp > self._last_ms:
            self._last_ms = timestamp
        if subject is not None:
            self._subjects.add(subject)
        if self._pending_bytes >= FRAME_TEXT_BYTES:
            self._end_frame()

    def end(self) -> Footer:
        """Write what is left, and the footer; return it. The object has at least one record."""
        self._end_frame()
        branch = self._name.branch
        footer = Footer(
            topic=branch.topic,
            topic_id=branch.topic_id,
            partition=branch.partition,
            first=self._name.first,
            next=self.next,
            count=self.count,
            size_bytes=self._text_bytes,
            sha256=self._digest.hexdigest(),
            packed_sha256=self._packed_digest.hexdigest(),
            first_ms=self._first_ms or 0,
            last_ms=self._last_ms,
            subjects=subjects_text(self._subjects),
        )
        self._write(frame(footer))
        return footer

    def _end_frame(self) -> None:
        if self._pending:
            text = b"".join(self._pending)
            self._digest.update(text)
            self._text_bytes += len(text)
            packed = zstd.compress(text, LEVEL)
            self._packed_digest.update(packed)
            self._write(packed)
            self._pending, self._pending_bytes = [], 0

    def _write(self, content: bytes) -> None:
        self._out.write(content)
        self.size_bytes += len(content)


def read_object(chunks: Iterable[bytes], name: ObjectName) -> Iterator[tuple[bytes, Line]]:
    """
    Yield each line of the object called *name*, whose content comes in *chunks*, with the record that it spells.

    That they are what was written is proven at the end: what was yielded before an error may not be.

    Raises:
        ObjectDamaged: the object is not whole, not what was written, or of another name.
    """
    digest, count, size_bytes, before = hashlib.sha256(), 0, 0, name.first - 1
    footer, source = None, _Source(chunks)
    for found in _texts(source):
        if isinstance(found, Footer):
            footer = found
            continue
        for text in found:
            digest.update(text)
            count += 1
            size_bytes += len(text)
            line = _line(text)
            if (line.topic, line.partition) != (name.branch.topic, name.branch.partition) or line.offset <= before:
                raise ObjectDamaged(f"a line of {line.topic}/{line.partition}/{line.offset} follows offset {before}")
            before = line.offset
            yield text, line
    if footer is None:
        raise ObjectDamaged("it ends without its footer: it is cut off")
    check_name(footer, name)
    if before >= footer.next:
        raise ObjectDamaged(f"offset {before} lies behind what the footer says it covers: {footer.next}")
    if source.digest.hexdigest() != footer.packed_sha256:
        raise ObjectDamaged("its frames are not those that were written: the digests differ")
    if (count, size_bytes, digest.hexdigest()) != (footer.count, footer.size_bytes, footer.sha256):
        raise ObjectDamaged(f"its {count} lines are not the {footer.count} that were written: the digests differ")


def check_name(footer: Footer, name: ObjectName) -> None:
    """Raise ObjectDamaged if *footer* is not of the object called *name*."""
    branch = name.branch
    said = footer.topic, footer.topic_id, footer.partition, footer.first
    if said != (branch.topic, branch.topic_id, branch.partition, name.first):
        raise ObjectDamaged(
            f"the footer is of another object: {footer.topic} ({footer.topic_id})/{footer.partition}/{footer.first}"
        )


def _line(text: bytes) -> Line:
    try:
        return lines.read(text)
    except ValueError as error:  # what msgspec raises, and what the encoding of text does
        raise ObjectDamaged(f"a line is damaged: {error}") from error


def _texts(source: "_Source") -> Iterator[list[bytes] | Footer]:
    """Yield whole lines, and then the footer."""
    rest = b""
    for found in _frames(source):
        if isinstance(found, Footer):
            if rest:
                raise ObjectDamaged("its last line is cut off")
            yield found
            continue
        *whole, rest = (rest + found).split(b"\n")
        yield [text + b"\n" for text in whole]
    if rest:
        raise ObjectDamaged("its last line is cut off")


def _frames(source: "_Source") -> Iterator[bytes | Footer]:
    """Yield the text of zstd frames in pieces, and the footer as what it is."""
    has_footer = False
    while head := source.head():
        if has_footer:
            raise ObjectDamaged("bytes follow its footer")
        magic, length = FRAME_HEAD.unpack(head)
        if magic == SKIPPABLE_MAGIC:
            yield _footer(source.take(FRAME_HEAD.size + length)[FRAME_HEAD.size :])
            has_footer = True
        else:
            yield from _unpacked(source)


def _unpacked(source: "_Source") -> Iterator[bytes]:
    """Yield the text of the frame that *source* goes on with, in pieces."""
    frame_text, packed = zstd.ZstdDecompressor(), b""
    try:
        while not frame_text.eof:
            given = b""
            if frame_text.needs_input:
                source.digest.update(packed)
                given = packed = source.some()
            if piece := frame_text.decompress(given, _PIECE_BYTES):
                yield piece
    except zstd.ZstdError as error:
        raise ObjectDamaged(f"a frame is damaged: {error}") from error
    rest = frame_text.unused_data  # of what it was given last
    source.digest.update(packed[: len(packed) - len(rest)])
    source.put_back(rest)


def _footer(content: bytes) -> Footer:
    try:
        return from_content(content)
    except FooterInvalid as error:
        raise ObjectDamaged(str(error)) from error


class _Source:
    """The bytes of an object, which come in chunks."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = b""
        self.digest = hashlib.sha256()  # of the zstd frames so far

    def head(self) -> bytes | None:
        """Return the head of the next frame, which is not taken; None at the end."""
        self._fill(FRAME_HEAD.size)
        if not self._held:
            return None
        if len(self._held) < FRAME_HEAD.size:
            raise ObjectDamaged("it is cut off within a frame")
        return self._held[: FRAME_HEAD.size]

    def take(self, size: int) -> bytes:
        """Return the next bytes, exactly so many."""
        self._fill(size)
        if len(self._held) < size:
            raise ObjectDamaged("it is cut off within a frame")
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def some(self) -> bytes:
        """Return the next bytes, as many as there are."""
        self._fill(1)
        if not self._held:
            raise ObjectDamaged("it is cut off within a frame")
        taken, self._held = self._held, b""
        return taken

    def put_back(self, content: bytes) -> None:
        """Go on with *content*, which is what was taken last."""
        self._held = content

    def _fill(self, size: int) -> None:
        parts, length = [self._held], len(self._held)
        while length < size and (chunk := next(self._chunks, None)) is not None:
            parts.append(chunk)
            length += len(chunk)
        self._held = b"".join(parts)
