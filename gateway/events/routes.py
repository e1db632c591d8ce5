"""The routes of user events."""

from typing import Annotated

from msgspec import Meta

from gateway.events.handlers import api, plain, reading, segment
from gateway.events.parameters import PAGE_SIZE_DEFAULT, PAGES_MAX
from gateway.events.parsing.api import Label, UserEventBody
from gateway.events.parsing.plain import PlainEventBody
from gateway.events.parsing.segment import CallType, SegmentBatch, SegmentCall
from gateway.events.parts import UserEventParts
from gateway.events.views import (
    PlainEventAccepted,
    SegmentAnswer,
    TaskView,
    UnprocessedView,
    UserBatchAnswer,
    UserEventAccepted,
    UserEventPage,
    UserEventView,
)
from gateway.http.bodies import BATCHES
from gateway.http.paging import BY_CURSOR, LIMIT_MAX, MEMBER_CHARACTERS_MAX, WORD_PATTERN
from gateway.http.refusals import READS, WRITES
from gateway.http.routes import BodySpec, Chapter, Parameter, Route
from gateway.http.waiting import wait_parameter
from schemas.access.credentials import Right
from schemas.errors import ErrorCode
from schemas.events.rules import EVENT_BYTES_MAX, REQUEST_BYTES_MAX
from schemas.events.topics import DOMAIN

# A payload of the largest size, and room for the rest of its event.
ONE_BYTES_MAX = EVENT_BYTES_MAX + 16 * 1024

_NAMES = tuple(group.name for group in DOMAIN.groups)
_WORD = Annotated[str, Meta(pattern=WORD_PATTERN)]
_TIME = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
_WAIT = (wait_parameter(_NAMES),)

_SEGMENT_REFUSALS = (
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.FORBIDDEN,
    ErrorCode.BAD_REQUEST,
    ErrorCode.REQUEST_TIMEOUT,
    ErrorCode.RATE_LIMIT_EXCEEDED,
    ErrorCode.BACKPRESSURE,
    ErrorCode.LOG_UNAVAILABLE,
)

ROUTES: tuple[Route[UserEventParts], ...] = (
    Route(
        method="POST",
        path="/api/v1/events",
        handler=api.accept_user_event,
        answer=UserEventAccepted,
        status=202,
        right=Right.INGEST,
        takes_tokens=True,
        body=BodySpec(type=UserEventBody, bytes_max=ONE_BYTES_MAX),
        query=_WAIT,
        refusals=(*WRITES, ErrorCode.KEYS_UNAVAILABLE),
    ),
    Route(
        method="POST",
        path="/api/v1/events/batch",
        handler=api.accept_user_events,
        answer=UserBatchAnswer,
        status=202,
        also={207: "Not all of the events are in the log"},
        right=Right.INGEST,
        takes_tokens=True,
        body=BodySpec(type=list[UserEventBody], bytes_max=REQUEST_BYTES_MAX, media_types=BATCHES),
        query=_WAIT,
        refusals=(*WRITES, ErrorCode.KEYS_UNAVAILABLE),
    ),
    Route(
        method="GET",
        path="/api/v1/events",
        handler=reading.list_user_events,
        answer=UserEventPage,
        right=Right.READ,
        takes_tokens=True,
        query=(
            Parameter(name="user_id", type=Label, description="Only events of this user"),
            Parameter(name="type", type=_WORD, description="Only events of this type"),
            Parameter(name="name", type=Label, description="Only events of this name"),
            Parameter(
                name="status",
                type=Annotated[str, Meta(extra_json_schema={"enum": ["pending", "processed", "failed"]})],
                description="Only events of this status",
            ),
            Parameter(name="from", type=_TIME, description="Only events received at this time (RFC 3339) or later"),
            Parameter(name="to", type=_TIME, description="Only events received before this time (RFC 3339)"),
            Parameter(
                name="property",
                type=Annotated[str, Meta(max_length=MEMBER_CHARACTERS_MAX, examples=["cart.total=12.5"])],
                description="Only events with this property: path=value, the value as JSON, or else a text",
            ),
            *BY_CURSOR,
            Parameter(
                name="page",
                type=Annotated[int, Meta(ge=1, le=PAGES_MAX)],
                description="Instead of cursor: the number of a page, from 1, with a total beside it",
            ),
            Parameter(
                name="size",
                type=Annotated[int, Meta(ge=1, le=LIMIT_MAX)],
                description=f"With page: entries a page; {PAGE_SIZE_DEFAULT} by default",
            ),
        ),
        refusals=(*READS, ErrorCode.KEYS_UNAVAILABLE),
    ),
    Route(
        method="GET",
        path="/api/v1/events/status/unprocessed",
        handler=reading.show_unprocessed,
        answer=UnprocessedView,
        right=Right.READ,
        takes_tokens=True,
        refusals=(*READS, ErrorCode.KEYS_UNAVAILABLE),
    ),
    Route(
        method="GET",
        path="/api/v1/events/batches/{task_id}",
        handler=reading.show_task,
        answer=TaskView,
        right=Right.READ,
        takes_tokens=True,
        refusals=(*READS, ErrorCode.KEYS_UNAVAILABLE, ErrorCode.NOT_FOUND),
    ),
    Route(
        method="GET",
        path="/api/v1/events/{event_id}",
        handler=reading.show_user_event,
        answer=UserEventView,
        right=Right.READ,
        takes_tokens=True,
        refusals=(*READS, ErrorCode.KEYS_UNAVAILABLE, ErrorCode.NOT_FOUND),
    ),
    Route(
        method="POST",
        path="/events",
        handler=plain.accept_plain,
        answer=PlainEventAccepted,
        status=202,
        also={207: "Of a batch of CloudEvents, not all are in the log"},
        right=Right.INGEST,
        body=BodySpec(type=PlainEventBody, bytes_max=REQUEST_BYTES_MAX, media_types=plain.TAKEN),
        refusals=WRITES,
        dialect=plain.as_plain,
        takes_anyone=True,
    ),
    Route(
        method="POST",
        path="/v1/batch",
        handler=segment.accept_segment_batch,
        answer=SegmentAnswer,
        right=Right.INGEST,
        takes_basic=True,
        body=BodySpec(type=SegmentBatch, bytes_max=REQUEST_BYTES_MAX, media_types=segment.TAKEN),
        refusals=_SEGMENT_REFUSALS,
        dialect=segment.as_segment,
        ignores_query=True,  # a refusal would make a library drop the batch
    ),
    Route(
        method="POST",
        path="/v1/{call_type}",
        handler=segment.accept_segment_call,
        answer=SegmentAnswer,
        right=Right.INGEST,
        takes_basic=True,
        patterns={"call_type": f"^({'|'.join(CallType)})$"},
        body=BodySpec(type=SegmentCall, bytes_max=ONE_BYTES_MAX, media_types=segment.TAKEN),
        refusals=(*_SEGMENT_REFUSALS, ErrorCode.NOT_FOUND),
        dialect=segment.as_segment,
        ignores_query=True,
    ),
)

CHAPTER: Chapter[UserEventParts] = Chapter(
    tag="events",
    description="User events: send what users of a product did, and read what is stored.",
    routes=ROUTES,
)
