"""The API's responses about user events, and to those who send them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.errors import ErrorCode, Fault

WalId = Annotated[str, Meta(description="The receipt: topic/partition/offset", examples=["user.events/3/1042"])]
TaskId = Annotated[str, Meta(description="Of the request: GET /api/v1/events/batches/{task_id} says what became of it")]
Waited = Annotated[bool, Meta(description="With ?wait: whether the group has committed past the record")]
Status = Literal["accepted", "pending", "processed", "failed"]


class UserEventAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """The event is in the log."""

    event_id: str
    task_id: TaskId
    wal_id: WalId
    status: Literal["accepted"] = "accepted"
    waited: Waited | UnsetType = UNSET


class PlainEventAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """The event is in the log."""

    status: Literal["accepted"] = "accepted"
    id: str
    task_id: TaskId
    wal_id: WalId
    waited: Waited | UnsetType = UNSET


class PlainRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """The event is not accepted: a problem document (RFC 9457), and in `error` its text."""

    error: str
    code: ErrorCode
    detail: str | None
    errors: Sequence[Fault] | UnsetType = UNSET


class UserEventResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of one event of a batch."""

    status: Annotated[
        Literal["accepted", "rejected", "retry"],
        Meta(description="rejected: never send it as it is; retry: send it again later, the same"),
    ]
    event_id: Annotated[str | None, Meta(description="Missing where the event is not valid")] = None
    wal_id: WalId | None = None
    code: ErrorCode | None = None
    detail: str | None = None
    errors: Sequence[Fault] = ()


class UserBatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of each event, in the order they were sent; with 207 not all of them are in the log."""

    task_id: TaskId
    results: Sequence[UserEventResult]
    waited: Waited | UnsetType = UNSET


class SegmentRefusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event that is not in the log, and never will be as it is."""

    index: Annotated[int, Meta(description="Its place in the batch, from 0")]
    code: ErrorCode
    detail: str | None
    errors: Sequence[Fault] = ()


class SegmentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All events but the refused ones are in the log."""

    success: bool = True
    task_id: TaskId
    refused: Sequence[SegmentRefusal]


class UserEventView(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a user."""

    event_id: str
    source: str
    user_id: str | None
    anonymous_id: str | None = None
    session_id: str | None = None
    run_id: str | None = None
    type: str
    name: str | None
    occurred_at: Annotated[str | None, Meta(description="As it was sent; null where no time was")]
    received_at: datetime
    clock: Annotated[
        Literal["ok", "future", "stale"] | None,
        Meta(description="future: occurred_at is over 5 minutes ahead of received_at; stale: over 7 days behind it"),
    ] = None
    payload: Annotated[
        msgspec.Raw | None, Meta(description="Null until it is stored; JSON with its members in Postgres's order")
    ] = None
    context: msgspec.Raw | None = None
    properties: Annotated[
        msgspec.Raw | None, Meta(description="The scalars of the payload by dotted path; null until it is stored")
    ] = None
    status: Annotated[
        Status,
        Meta(
            description="accepted: in the log, and not stored yet; pending: stored, and waits for its processing "
            "function; failed: see error"
        ),
    ]
    attempts: int = 0
    error_class: str | None = None
    error: str | None = None
    result: msgspec.Raw | None = None
    processed_at: datetime | None = None
    authenticated: Literal["token", "key", "direct"]
    user_verified: Annotated[
        bool, Meta(description="By the user's own token, or by a key that may speak for users: shown to the user")
    ]
    task_id: TaskId | None
    wal_id: WalId
    stored_at: datetime | None = None


class UserEventPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of events, the newest first."""

    events: Sequence[UserEventView]
    next_cursor: Annotated[str | None, Meta(description="Where the next page begins; null on the last")]
    page: Annotated[int | UnsetType, Meta(description="With ?page: its number")] = UNSET
    size: Annotated[int | UnsetType, Meta(description="With ?page: entries a page")] = UNSET
    total: Annotated[int | UnsetType, Meta(description="With ?page: how many there are, counted to 10,000")] = UNSET


class ErrorCount(msgspec.Struct, frozen=True, kw_only=True):
    """The number of events that failed with one class of error."""

    error_class: str
    count: int


class UnprocessedView(msgspec.Struct, frozen=True, kw_only=True):
    """The state of processing: events by status, the oldest pending one, and errors."""

    pending: int
    failed: int
    processed_last_hour: int
    received_last_hour: int
    oldest_pending_at: datetime | None
    errors: Annotated[Sequence[ErrorCount], Meta(description="Of failed events, the most frequent first")]


class TaskEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of one event of a request."""

    event_id: str
    status: Literal["accepted", "pending", "processed", "failed", "duplicate", "rejected"]
    wal_id: WalId
    error_class: str | None = None
    error: str | None = None


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """The outcomes of those events of one request that are in the log."""

    task_id: TaskId
    status: Annotated[
        Literal["accepted", "processing", "done"],
        Meta(description="accepted: some are not stored yet; processing: all are, and some are pending"),
    ]
    counts: Annotated[dict[str, int], Meta(description="By status of the event")]
    events: Sequence[TaskEvent]
