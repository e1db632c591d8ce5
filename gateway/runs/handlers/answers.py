"""Answers: their types, and their bytes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.runs.sequence.sequencer import Submission
from schemas.runs.views import EventView, RunView

WalId = Annotated[str, Meta(description="The receipt: topic/partition/offset", examples=["run.events/3/1042"])]
Waited = Annotated[bool, Meta(description="With ?wait: whether the group has committed past the record")]
Status = Annotated[
    Literal["accepted", "duplicate"],
    Meta(description="duplicate: it was in the log before, and wal_id is the first one's place"),
]
Sequencing = Annotated[
    Literal["unverified"],
    Meta(description="Present when the run's state in the log could not be read in time; persistence decides"),
]
Cursor = Annotated[str | None, Meta(description="Where the next page begins; null on the last")]

LiveCursor = Annotated[
    str | None,
    Meta(
        description="Cursor from which the run's websocket continues without a gap: take that of the first page and "
        "read on to the last; the websocket may repeat what the pages showed. Null while the log does not answer"
    ),
]


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The record is in the log."""

    status: Status = "accepted"
    wal_id: WalId
    sequence: Sequencing | UnsetType = UNSET
    waited: Waited | UnsetType = UNSET


class EventAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """The event is in the log."""

    status: Status
    wal_id: WalId
    seq: int
    sequence: Sequencing | UnsetType = UNSET
    waited: Waited | UnsetType = UNSET


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the tenant's runs, the newest first."""

    runs: Sequence[RunView]
    next_cursor: Cursor


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a run's events, by seq."""

    events: Sequence[EventView]
    next_cursor: Cursor
    live_cursor: LiveCursor
    events_removed_at: Annotated[
        datetime | UnsetType,
        Meta(description="When retention removed events of the run: on an empty page, and before a gap"),
    ] = UNSET


def sequencing(submission: Submission) -> Sequencing | UnsetType:
    """Return the `sequence` field of an answer: "unverified" where *submission* could not be checked."""
    return UNSET if submission.verified else "unverified"
