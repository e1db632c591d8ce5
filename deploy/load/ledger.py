"""
A ledger of the outcome of each event, on disk before the next event of its run is sent; fault tests check against it.

One JSON object a line: `event_id`, what it follows (`run_id` and `seq`, or `user_id` and `number`), and `outcome`.
"""

import json
import os
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.load.events import OutgoingEvent


class Outcome(StrEnum):
    """The outcome of an event, as far as the sender knows it."""

    OK = "ok"  # answered 202: it is in the log
    FAIL = "fail"  # every attempt was refused: it is nowhere
    INFO = "info"  # unknown (timeout, connection cut, 5xx): it may be in the log once


class Ledger(AbstractContextManager["Ledger"]):
    """A file that lines are appended to; a path of None keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        """Open the file."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._descriptor = None if path is None else os.open(path, flags, 0o644)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)

    def append(self, event: OutgoingEvent, outcome: Outcome) -> None:
        """Write one line and wait until the disk has it. Blocks: call it in a thread."""
        if self._descriptor is None:
            return
        line = {"event_id": event.event_id, **event.order, "outcome": outcome}
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")  # one write: lines of several threads stay whole
        os.fsync(self._descriptor)
