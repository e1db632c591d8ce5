"""Query parameters of the list of user events: filters, cursors, and pages by number."""

from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from gateway.events.store import EventPlace, UserEventFilter
from gateway.events.views import Status
from gateway.http import paging
from gateway.http.paging import (
    LIMIT_MAX,
    Query,
    bad,
    bad_cursor,
    read_label,
    read_member,
    read_number,
    read_time,
    read_word,
)

STORED_STATUSES = tuple(status for status in get_args(Status) if status != "accepted")
PAGES_MAX = 10_000  # by number: what lies behind is read by the cursor
PAGE_SIZE_DEFAULT = 50


@dataclass(frozen=True, slots=True)
class NumberedPage:
    """A page by its number, from 1."""

    number: int
    size: int

    @property
    def skip(self) -> int:
        """Return how many entries precede it."""
        return (self.number - 1) * self.size


def read_filter(query: Query) -> UserEventFilter:
    """Return the filter of the requested events. Raises BadQuery."""
    return UserEventFilter(
        user_id=read_label(query, "user_id"),
        type=read_word(query, "type"),
        name=read_label(query, "name"),
        status=_status(query),
        received_from=read_time(query, "from"),
        received_before=read_time(query, "to"),
        properties=_properties(query),
    )


def read_page(query: Query) -> NumberedPage | None:
    """Return the page that is asked for by number; None where pages go by cursor. Raises BadQuery."""
    if "page" not in query and "size" not in query:
        return None
    if "cursor" in query or "limit" in query:
        raise bad("page", "and size number the pages, cursor and limit go from one to the next: send one pair")
    return NumberedPage(
        read_number(query, "page", default=1, largest=PAGES_MAX),
        read_number(query, "size", default=PAGE_SIZE_DEFAULT, largest=LIMIT_MAX),
    )


def event_cursor(last: EventPlace) -> str:
    """Return the cursor of the page after the event at *last*."""
    return paging.cursor((last.received_at, last.partition, last.offset))


def read_cursor(query: Query) -> EventPlace | None:
    """Return the event after which the page begins; None is the first page. Raises BadQuery."""
    if "cursor" not in query:
        return None
    received_at, partition, offset = paging.read_cursor(query["cursor"], tuple[datetime, int, int])
    if received_at.tzinfo is None or not -(2**31) <= partition < 2**31 or not -(2**63) <= offset < 2**63:
        raise bad_cursor()
    return EventPlace(received_at, partition, offset)


def _status(query: Query) -> str | None:
    status = query.get("status")
    if status is not None and status not in STORED_STATUSES:
        raise bad("status", f"must be one of {', '.join(STORED_STATUSES)}")
    return status


def _properties(query: Query) -> dict[str, object]:
    """Return the property that events are to have."""
    member = read_member(query, "property")
    return {} if member is None else {member[0]: member[1]}
