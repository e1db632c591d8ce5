"""A small file that people change while processes run: looked at once a second at most, parsed when it changed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import structlog

log = structlog.get_logger()

Value = TypeVar("Value")

LOOK_AGAIN_S = 1.0

_ALL: "WeakSet[WatchedFile[Any]]" = WeakSet()


class WatchedFile(Generic[Value]):
    """The value of a file as it is now; a file that cannot be used leaves the last good value in force."""

    def __init__(self, path: Path, parse: Callable[[str], Value]) -> None:
        """
        Read the file once; *parse* raises a ValueError for a text that cannot be used.

        Raises:
            OSError, ValueError: it is missing or cannot be used.
        """
        _ALL.add(self)
        self.path = path
        self.problem: str | None = None  # why the newest file is not in force; None while it is
        self._parse = parse
        self._looked_at_s = float("-inf")
        self._stamp: tuple[int, int, int] | None = None
        self._current = self._read()

    def current(self, *, now_s: float) -> Value:
        """The value in force; *now_s* is a monotonic clock's reading."""
        if now_s - self._looked_at_s >= LOOK_AGAIN_S:
            self._looked_at_s = now_s
            self._look()
        return self._current

    def _look(self) -> None:
        problem = None
        try:
            if self._stamp_now() != self._stamp:
                self._current = self._read()
        except (OSError, ValueError) as error:
            problem = str(error)
        if problem is not None and problem != self.problem:
            log.error("a file cannot be used; what it said last stays in force", path=str(self.path), why=problem)
        elif problem is None and self.problem is not None:
            log.warning("the file is in force again", path=str(self.path))
        self.problem = problem

    def _read(self) -> Value:
        stamp = self._stamp_now()
        value = self._parse(self.path.read_text())
        self._stamp = stamp
        return value

    def _stamp_now(self) -> tuple[int, int, int]:
        status = self.path.stat()
        return status.st_mtime_ns, status.st_ino, status.st_size


def problems() -> Mapping[str, str]:
    """Why watched files of this process are not in force, by their paths; for its readiness probe."""
    return {str(each.path): each.problem for each in _ALL if each.problem is not None}
