"""
Named places where a test ends the process as kill -9 would; they do nothing unless TIDEGATE_FAILPOINT names one.

Why in the code itself: a kill at random hardly ever meets the moment between a commit and its offset.
"""

import os
from enum import StrEnum

from schemas.process.settings import SettingsInvalid

EXIT_KILLED = 137  # what a shell reports after SIGKILL


class Failpoint(StrEnum):
    """The steps between fetch and commit, those of an executor, of documents and of the archive, in their order."""

    AFTER_POLL = "after_poll"
    AFTER_GATHER = "after_gather"
    AFTER_CUT = "after_cut"
    BEFORE_WRITE = "before_write"
    AFTER_APPEND = "after_append"
    AFTER_RENAME = "after_rename"
    AFTER_WRITE = "after_write"
    BEFORE_TX = "before_tx"
    BEFORE_COMMIT = "before_commit"
    BEFORE_TRACE = "before_trace"
    BEFORE_POST = "before_post"
    AFTER_POST = "after_post"
    BEFORE_DLQ_ACK = "before_dlq_ack"
    AFTER_COMMIT_BEFORE_OFFSET = "after_commit_before_offset"
    AFTER_OFFSET = "after_offset"
    AFTER_CLAIM = "after_claim"
    BEFORE_FINISH = "before_finish"
    AFTER_FINISH = "after_finish"
    AFTER_ROWS = "after_rows"
    AFTER_CACHED = "after_cached"
    AFTER_PARTS = "after_parts"
    BEFORE_PUT = "before_put"
    AFTER_PUT = "after_put"


_hits_left: dict[Failpoint, int] = {}


def arm(text: str) -> None:
    """
    End the process where *text*, `name:n`, says, at its nth hit; an empty text arms nothing.

    Raises:
        SettingsInvalid: there is no such failpoint.
    """
    if not text:
        return
    name, _, hits = text.partition(":")
    try:
        _hits_left[Failpoint(name)] = int(hits or 1)
    except ValueError as error:
        raise SettingsInvalid(f"TIDEGATE_FAILPOINT={text!r} is none of {', '.join(Failpoint)} with :n") from error


def reach(point: Failpoint) -> None:
    """End the process here and now, if this hit of *point* is the one that was asked for."""
    if point not in _hits_left:
        return
    _hits_left[point] -= 1
    if not _hits_left[point]:
        os._exit(EXIT_KILLED)
