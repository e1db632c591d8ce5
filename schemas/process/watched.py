"""A small file that people change while processes run: checked once a second, parsed when it changed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import structlog

from schemas.process.file_writing import replaced_outside
from schemas.process.secret_files import check_mode, exposure

log = structlog.get_logger()

Value = TypeVar("Value")

RETRY_DELAY_S = 1.0

_ALL: "WeakSet[WatchedFile[Any]]" = WeakSet()


class WatchedFile(Generic[Value]):
    """The value of a file as it is now; a file that cannot be used leaves the last good value in force."""

    def __init__(self, path: Path, parse: Callable[[str], Value], *, secret: bool = False) -> None:
        """
        Read the file once; *parse* raises a ValueError for a text that cannot be used.

        A *secret* file that others may read is refused here. Once it is in use, such a mode is reported as a problem
        and the content still counts: a key that is revoked in it must not go on working.

        Raises:
            OSError, ValueError: it is missing or cannot be used.
        """
        _ALL.add(self)
        self.path = path
        self.problem: str | None = None  # why the newest file is not in force, or is exposed; None: neither
        self._parse = parse
        self._secret = secret
        self._looked_at_s = float("-inf")
        self._mode, stamp = self._status()
        if secret:
            check_mode(path, self._mode)
        self._current = self._read()
        self._stamp = stamp
        self._parse_error: str | None = None

    def current(self, *, now_s: float) -> Value:
        """Return the value in force; *now_s* is a monotonic clock's reading."""
        if now_s - self._looked_at_s >= RETRY_DELAY_S:
            self._looked_at_s = now_s
            self._look()
        return self._in_force(now_s)

    def newer(self, than: Value, *, now_s: float) -> Value | None:
        """
        Return the value in force by what the file says now, or None if that is *than*.

        To be asked before something is refused for lack of an entry: the entry may have been written a moment ago.
        Each call is one `stat`; the file is read only if it changed, whatever others send.
        """
        self._look()
        newest = self._in_force(now_s)
        return None if newest is than else newest

    def _in_force(self, now_s: float) -> Value:  # noqa: ARG002  # a subclass may let the time decide
        return self._current

    def _look(self) -> None:
        problem = None
        try:
            self._mode, stamp = self._status()
            if stamp != self._stamp:
                try:
                    self._current = self._read()
                    self._parse_error = None
                except ValueError as error:
                    self._parse_error = str(error)
                self._stamp = stamp  # what cannot be parsed is not read again until the file changes
            problem = self._parse_error
            if problem is None and replaced_outside(self.path):
                problem = "it was replaced outside this container, which keeps the old file: mount its folder instead"
        except OSError as error:
            problem = str(error)
        if problem is not None and problem != self.problem:
            log.error("file not usable, its last content stays in force", path=str(self.path), error=problem)
        if problem is None and self._secret:
            problem = exposure(self.path, self._mode)
            if problem is not None and problem != self.problem:
                log.error("secrets file exposed, a process that starts now refuses it", error=problem)
        if problem is None and self.problem is not None:
            log.warning("file in force again", path=str(self.path))
        self.problem = problem

    def _read(self) -> Value:
        return self._parse(self.path.read_text(encoding="utf-8"))

    def _status(self) -> tuple[int, tuple[int, int, int]]:
        status = self.path.stat()
        return status.st_mode, (status.st_mtime_ns, status.st_ino, status.st_size)


def problems() -> Mapping[str, str]:
    """Return why watched files of this process are not in force or exposed, by their paths; for its readiness probe."""
    return {str(each.path): each.problem for each in _ALL if each.problem is not None}
