"""
A file for what could not be sent in time: a client appends to it at the end of a run, the next one sends it.

JSON lines, mode 0600, bounded, on disk before `append` returns. Several processes may share it: a lock file guards each
change, and a client that sends takes its lines out into a file of its own, `NAME.sending-*`, whose lock it holds. Lines
of a client that died meanwhile are taken over by the next; sending them twice is harmless, for the gateway knows them
by number and key. Neither the API key nor the agent's secret is written: events are signed when they are sent.
"""

import glob
import logging
import os
import stat
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.client.errors import SpoolUnusable
from gateway.client.spooled import Line, decode, encode

if sys.platform != "win32":
    import fcntl

LOCK_TIMEOUT_S = 2.0
LOCK_POLL_S = 0.02
MODE = 0o600

logger = logging.getLogger(__name__)


class Claim:
    """Lines that this process sends, in a file that it has locked."""

    def __init__(self, spool: "Spool", path: Path, descriptor: int, lines: Sequence[Line]) -> None:
        """Take locked lines; only `Spool.claim` makes one."""
        self.lines = lines
        self._spool = spool
        self._path = path
        self._descriptor = descriptor

    def finish(self, left: Sequence[Line]) -> None:
        """
        Put *left* back into the spool file, before what was written there since, and forget the rest.

        Raises:
            SpoolUnusable: all of it stays, for the next client.
        """
        try:
            self._spool.put_back(left, self._path)
        finally:
            self.release()

    def release(self) -> None:
        """Leave all of it to the next client."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Spool:
    """The spool file at *path*."""

    def __init__(self, path: Path, *, bytes_max: int) -> None:
        """Open nothing yet."""
        if sys.platform == "win32":
            raise SpoolUnusable("a spool file needs file locks of POSIX, which Windows does not have: leave spool out")
        self.path = path
        self._bytes_max = bytes_max

    def append(self, lines: Sequence[Line]) -> int:
        """
        Write as many of *lines*, in order, as the bound admits; return how many.

        Raises:
            SpoolUnusable: none is sure to be there.
        """
        with self._locked():
            descriptor = _open(self.path)
            try:
                room_bytes = self._bytes_max - sum(map(_size_bytes, (self.path, *self._sending())))
                text, count = _fitting(lines, room_bytes)
                if not _ends_a_line(descriptor):
                    text = b"\n" + text  # a writer died in the middle of a line
                _write(descriptor, text)
            finally:
                os.close(descriptor)
        return count

    def claim(self, agent_id: str) -> Claim | None:
        """
        Take the lines of *agent_id* that no living client sends; None if there are none.

        Raises:
            SpoolUnusable: the file cannot be read or locked.
        """
        with self._locked():
            orphans = [one for path in self._sending() if (one := _try_lock(path)) is not None]
            try:
                return self._claim(agent_id, [path for path, _ in orphans])
            finally:
                for _, descriptor in orphans:
                    os.close(descriptor)

    def _claim(self, agent_id: str, orphans: Sequence[Path]) -> Claim | None:
        sources = [*orphans, *([self.path] if self.path.exists() else [])]
        texts = [text for path in sources for text in _read(path, self._bytes_max).split(b"\n") if text.strip()]
        lines = [line for text in texts if (line := decode(text)) is not None]
        own = [line for line in lines if line.agent_id == agent_id]
        if not own:
            return None
        path = self.path.with_name(f"{self.path.name}.sending-{uuid.uuid4().hex}")
        descriptor = _open(path)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _write(descriptor, b"".join(map(encode, own)))
        # Only now, when each line is on disk a second time, may the first go.
        _replace(self.path, b"".join(encode(line) for line in lines if line.agent_id != agent_id))
        for orphan in orphans:
            orphan.unlink(missing_ok=True)
        if len(lines) < len(texts):
            logger.warning("spool file %s: %d lines are cut off or damaged", self.path, len(texts) - len(lines))
        return Claim(self, path, descriptor, own)

    def put_back(self, left: Sequence[Line], path: Path) -> None:
        """See `Claim.finish`; *path* is where they are now."""
        with self._locked():
            if left:
                newer = _read(self.path, self._bytes_max) if self.path.exists() else b""
                _replace(self.path, b"".join(map(encode, left)) + newer)
            path.unlink(missing_ok=True)

    def _sending(self) -> list[Path]:
        found = []
        for path in self.path.parent.glob(f"{glob.escape(self.path.name)}.sending-*"):
            with suppress(FileNotFoundError):  # its client has just finished
                found.append((path.stat().st_mtime_ns, path))
        return [path for _, path in sorted(found)]  # the oldest first: a run may have gone on since

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = _open(self.path.with_name(f"{self.path.name}.lock"))
            try:
                _lock(descriptor)
                yield
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:
            raise SpoolUnusable(f"spool file {self.path}: {error}") from error


def _fitting(lines: Sequence[Line], room_bytes: int) -> tuple[bytes, int]:
    texts: list[bytes] = []
    for line in lines:
        text = encode(line)
        room_bytes -= len(text)
        if room_bytes < 0:
            break
        texts.append(text)
    return b"".join(texts), len(texts)


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _open(path: Path, *, create: bool = True) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags | os.O_CREAT if create else flags, MODE)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file")
    if stat.S_IMODE(status.st_mode) != MODE:
        with suppress(OSError):  # it belongs to another user, who may let us write all the same
            os.fchmod(descriptor, MODE)
    return descriptor


def _lock(descriptor: int) -> None:
    deadline_s = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                raise OSError(f"another process has held its lock for {LOCK_TIMEOUT_S} s") from None
            time.sleep(LOCK_POLL_S)
        else:
            return


def _try_lock(path: Path) -> tuple[Path, int] | None:
    """Lock the file of a client that sends; None while that client lives."""
    try:
        descriptor = _open(path, create=False)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return path, descriptor


def _ends_a_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


def _read(path: Path, bytes_max: int) -> bytes:
    # The bound held when it was written; a larger file is not ours.
    if path.stat().st_size > 2 * bytes_max:
        raise OSError(f"{path} has more than {2 * bytes_max} bytes: remove it, or raise spool_bytes_max")
    return path.read_bytes()


def _write(descriptor: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)


def _replace(path: Path, text: bytes) -> None:
    """Replace the content of *path* at once, on disk when this returns; without content there is no file."""
    if not text:
        path.unlink(missing_ok=True)
    else:
        new = path.with_name(f"{path.name}.new-{uuid.uuid4().hex}")
        descriptor = _open(new)
        try:
            _write(descriptor, text)
        finally:
            os.close(descriptor)
        new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
