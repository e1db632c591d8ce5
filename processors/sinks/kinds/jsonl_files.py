"""The files of one partition. Everything here blocks, and changes nothing but under the partition's lock."""

import fcntl
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

import msgspec
import structlog

from processors.runtime.failpoints import Failpoint, reach
from processors.sinks.contract import SinkRecord, Transient
from processors.sinks.kinds.jsonl_names import (
    OpenFile,
    closed_files,
    closed_path,
    open_file,
    open_files,
    sent_back_path,
)
from schemas.sinks.sinks_file import JsonlSink

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LOCK = ".lock"
LOCK_WAIT_S = 5.0
LOCK_POLL_S = 0.02
CHUNK_BYTES = 1024 * 1024
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_MODE = 0o640  # events may be private: not for everyone on the machine

log = structlog.get_logger()


class _Placed(msgspec.Struct):
    """The place that a line names."""

    place: str


class _Written(NamedTuple):
    """The part of the partition that is on disk."""

    next_offset: int  # records before it are there
    file: OpenFile | None  # None: the next record begins one
    size_bytes: int  # of the open file


class PartitionFiles:
    """The files of one partition."""

    def __init__(
        self, folder: Path, settings: JsonlSink, *, clock_s: Callable[[], float], lock_wait_s: float = LOCK_WAIT_S
    ) -> None:
        """
        Make the *folder* if it is missing.

        Files are of an age by *clock_s*, the time of day; another process is waited for *lock_wait_s*.
        """
        self._lock_wait_s = lock_wait_s
        self._folder = folder
        self._settings = settings
        self._clock_s = clock_s
        self._known: _Written | None = None
        folder.mkdir(parents=True, exist_ok=True)
        _sync_folder(folder.parent)

    def append(self, records: Sequence[SinkRecord]) -> None:
        """
        Write *records* after those that are there; on return they are on disk.

        Raises:
            Transient: another process has the lock.
            OSError: they are not written, or not all of them; what is there is seen at the next call.
        """
        with self._locked():
            written = self._written()
            new = [record for record in records if record.place.offset >= written.next_offset]
            if new:
                self._append(written, new)
                self._close_if_due()

    def append_sent_back(self, records: Sequence[SinkRecord], *, attempt: int) -> None:
        """Write *records*, which were dead letters, to a file of their own; a repeated call replaces it by itself."""
        first, last = records[0].place.offset, records[-1].place.offset
        path = sent_back_path(self._folder, first=first, last=last, attempt=attempt)
        with self._locked(), _replacing(path) as descriptor:
            _write(descriptor, _lines(records))

    def tidy(self) -> None:
        """Close what is open for long enough, and remove what need not be kept; nothing while it is written to."""
        with suppress(Transient), self._locked(wait_s=0.0):
            if open_files(self._folder):
                self._written()
                self._close_if_due()
            self._remove_old()

    def _append(self, written: _Written, records: Sequence[SinkRecord]) -> None:
        self._known = None  # until it is on disk
        file, size_bytes = written.file, written.size_bytes
        if file is None:
            file = open_file(self._folder, first=records[0].place.offset, opened_s=int(self._clock_s()))
            descriptor = os.open(file.path, _NEW_FILE | os.O_APPEND, _MODE)
            _sync_folder(self._folder)
        else:
            descriptor = os.open(file.path, os.O_WRONLY | os.O_APPEND)
        try:
            lines = _lines(records)
            _write(descriptor, lines)
            reach(Failpoint.AFTER_APPEND)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._known = _Written(records[-1].place.offset + 1, file, size_bytes + len(lines))

    def _written(self) -> _Written:
        """Return what is on disk, looked up anew if another process has changed it."""
        known = self._known
        if known is not None and known.file is not None and _size_of(known.file.path) == known.size_bytes:
            return known
        self._known = self._look_up()
        return self._known

    def _look_up(self) -> _Written:
        """Return what is on disk after a crash, once what it has left half-done is undone or done."""
        closed_until = closed[-1].last + 1 if (closed := closed_files(self._folder)) else 0
        for path in self._folder.glob("*.part"):
            path.unlink()
        for file in open_files(self._folder):
            if file.first < closed_until:  # it was closed whole, under a name of its own
                file.path.unlink()
                continue
            offset, size_bytes = _cut_torn(file.path)
            if offset is None:  # it holds nothing
                file.path.unlink()
                continue
            return _Written(offset + 1, file, size_bytes)
        return _Written(closed_until, None, 0)

    def _close_if_due(self) -> None:
        known = self._known
        if known is None or known.file is None:
            return
        age_s = self._clock_s() - known.file.opened_s
        if known.size_bytes >= self._settings.file_bytes_max or age_s >= self._settings.file_seconds_max:
            self._known = None
            self._close(known.file, last=known.next_offset - 1)
            self._known = _Written(known.next_offset, None, 0)

    def _close(self, file: OpenFile, *, last: int) -> None:
        path = closed_path(self._folder, first=file.first, last=last, zstd=self._settings.zstd)
        if self._settings.zstd:
            with _replacing(path) as descriptor:
                _compress(file.path, descriptor)
            file.path.unlink()
        else:
            file.path.rename(path)
        reach(Failpoint.AFTER_RENAME)
        _sync_folder(self._folder)

    def _remove_old(self) -> None:
        closed = closed_files(self._folder)
        sizes = {each.path: each.path.stat() for each in closed}
        kept_bytes = sum(status.st_size for status in sizes.values())
        for each in closed[:-1]:  # the newest says how far the partition is written
            status = sizes[each.path]
            is_old = _exceeds(self._clock_s() - status.st_mtime, self._settings.kept_seconds_max)
            if not is_old and not _exceeds(kept_bytes, self._settings.kept_bytes_max):
                return
            each.path.unlink()
            kept_bytes -= status.st_size

    @contextmanager
    def _locked(self, *, wait_s: float | None = None) -> Iterator[None]:
        descriptor = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT, _MODE)
        try:
            _lock(descriptor, self._folder, wait_s=self._lock_wait_s if wait_s is None else wait_s)
            yield
        finally:
            os.close(descriptor)  # which unlocks it


def _lock(descriptor: int, folder: Path, *, wait_s: float) -> None:
    deadline_s = monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if monotonic() >= deadline_s:
                raise Transient(f"another process writes to {folder}") from error
            sleep(LOCK_POLL_S)
        else:
            return


@contextmanager
def _replacing(path: Path) -> Iterator[int]:
    """Lend a new file that becomes *path* when it is whole and on disk."""
    part = path.with_name(f"{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
    try:
        yield descriptor
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.rename(path)
    _sync_folder(path.parent)


def _compress(path: Path, descriptor: int) -> None:
    compressor = zstd.ZstdCompressor()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            _write(descriptor, compressor.compress(chunk))
    _write(descriptor, compressor.flush())


def _lines(records: Sequence[SinkRecord]) -> bytes:
    return b"".join(record.json + b"\n" for record in records)


def _write(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exceeds(value: float, maximum: float | None) -> bool:
    return maximum is not None and value > maximum


def _cut_torn(path: Path) -> tuple[int | None, int]:
    """
    Cut off what of *path* is no whole line of a record.

    Return the offset of its last record, None if none is left, and its size.
    """
    with path.open("r+b") as file:
        whole = end = file.seek(0, os.SEEK_END)
        offset = None
        while whole and offset is None:
            line, begin = _last_line(file.fileno(), whole)
            offset = _offset_of(line)
            if offset is None:
                whole = begin
        if whole != end:
            log.warning("cut off what a crash has torn", path=str(path), bytes=end - whole)
            file.truncate(whole)
            os.fsync(file.fileno())
    return offset, whole


def _last_line(descriptor: int, end: int) -> tuple[bytes, int]:
    """Return the last line of the first *end* bytes, with its end if it has one, and where it begins."""
    line, begin = b"", end
    while begin:
        size_bytes = min(CHUNK_BYTES, begin)
        line = os.pread(descriptor, size_bytes, begin - size_bytes) + line
        begin -= size_bytes
        if (found := line.rfind(b"\n", 0, len(line) - 1)) >= 0:
            return line[found + 1 :], begin + found + 1
    return line, 0


def _offset_of(line: bytes) -> int | None:
    """Return the offset of the record in a whole line; None if it is torn."""
    if not line.endswith(b"\n"):
        return None
    try:
        return int(msgspec.json.decode(line, type=_Placed).place.rpartition("/")[2])
    except ValueError:  # msgspec's too
        return None
