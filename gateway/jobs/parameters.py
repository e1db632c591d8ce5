"""Query and path parameters of the routes of jobs: ids, filters, cursors, and pages by offset."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from gateway.errors import NotFound
from gateway.http import paging
from gateway.http.paging import (
    Query,
    bad,
    bad_cursor,
    read_choice,
    read_label,
    read_limit,
    read_member,
    read_number,
    read_time,
)
from gateway.jobs.store import JobPlace
from schemas.jobs.filters import JobFilter
from schemas.jobs.rules import queue_fault, type_fault
from schemas.jobs.states import EndReason, JobStatus
from schemas.texts import label_fault

OFFSET_MAX = 10_000  # what lies behind is read by the cursor
NO_JOB = "no such job"


@dataclass(frozen=True, slots=True)
class JobPageAsked:
    """The page that is asked for: by its cursor, or by how many entries precede it."""

    after: JobPlace | None
    offset: int | None  # None: by cursor
    limit: int


def read_id(text: str, otherwise: str = NO_JOB) -> str:
    """Return an id of the path in its usual form. Raises NotFound, which says *otherwise*: nothing has such an id."""
    try:
        return str(UUID(text))
    except ValueError:
        raise NotFound(otherwise) from None


def read_job_filter(query: Query) -> JobFilter:
    """Return the filter of the requested jobs. Raises BadQuery."""
    type_, queue = query.get("type"), read_queue(query)
    if type_ is not None and (fault := type_fault(type_)):
        raise bad("type", f"must be {fault}")
    return JobFilter(
        status=read_choice(query, "status", JobStatus),
        type=type_,
        queue=queue,
        user_id=read_label(query, "user_id"),
        tag=read_label(query, "tag"),
        reason=read_choice(query, "reason", EndReason),
        dedupe_key=read_label(query, "dedupe_key"),
        created_from=read_time(query, "from"),
        created_to=read_time(query, "to"),
        metadata=_metadata(query),
    )


def read_queue(query: Query) -> str | None:
    """Return a filter by queue; None asks for all. Raises BadQuery."""
    queue = query.get("queue")
    if queue is not None and (fault := queue_fault(queue)):
        raise bad("queue", f"must be {fault}")
    return queue


def read_job_page(query: Query) -> JobPageAsked:
    """Return the page that is asked for. Raises BadQuery."""
    limit = read_limit(query)
    if "offset" not in query:
        return JobPageAsked(read_job_cursor(query), None, limit)
    if "cursor" in query:
        raise bad("offset", "says how many entries to skip, cursor where to go on: send one of the two")
    return JobPageAsked(None, read_number(query, "offset", default=0, smallest=0, largest=OFFSET_MAX), limit)


def job_cursor(last: JobPlace) -> str:
    """Return the cursor of the page after *last*."""
    return paging.cursor((last.moment, last.job_id))


def read_job_cursor(query: Query) -> JobPlace | None:
    """Return the place after which the page begins; None is the first page. Raises BadQuery."""
    if "cursor" not in query:
        return None
    moment, job_id = paging.read_cursor(query["cursor"], tuple[datetime, UUID])
    if moment.tzinfo is None:
        raise bad_cursor()
    return JobPlace(moment, str(job_id))


def read_name_cursor(query: Query) -> str | None:
    """Return the name after which the page begins; None is the first page. Raises BadQuery."""
    if "cursor" not in query:
        return None
    (name,) = paging.read_cursor(query["cursor"], tuple[str])
    if label_fault(name):
        raise bad_cursor()
    return name


def read_attempt(query: Query) -> int | None:
    """Return the number of the attempt that is asked for; None: the newest. Raises BadQuery."""
    return read_number(query, "attempt", default=1, largest=2**31 - 1) if "attempt" in query else None


def _metadata(query: Query) -> dict[str, Any]:
    """Return what the metadata is to contain: objects within each other, where the path has dots."""
    member = read_member(query, "metadata")
    if member is None:
        return {}
    path, value = member
    *outer, name = path.split(".")
    found: dict[str, Any] = {name: value}
    for each in reversed(outer):
        found = {each: found}
    return found
