"""Query parameters of the lists of runs and of events: filters and cursors."""

from datetime import datetime
from typing import get_args

from gateway.http.paging import Query, bad, bad_cursor, cursor, read_cursor
from gateway.runs.store import RunPlace
from schemas.ids import is_id
from schemas.runs.rules import SEQ_MAX
from schemas.runs.views import RunView, Status


def read_agent(query: Query) -> str | None:
    """Return the agent whose runs are asked for; None asks for all."""
    agent = query.get("agent")
    if agent is not None and not is_id(agent):
        raise bad("agent", "must match [A-Za-z0-9._:-]{1,128}")
    return agent


def read_status(query: Query) -> str | None:
    """Return the status that runs are to have; None asks for all."""
    status = query.get("status")
    if status is not None and status not in get_args(Status):
        raise bad("status", f"must be one of {', '.join(get_args(Status))}")
    return status


def run_cursor(last: RunView) -> str:
    """Return the cursor of the page after *last*."""
    return cursor((last.started_at, last.run_id))


def read_run_cursor(query: Query) -> RunPlace | None:
    """Return the run after which the page begins; None is the first page."""
    if "cursor" not in query:
        return None
    started_at, run_id = read_cursor(query["cursor"], tuple[datetime, str])
    if started_at.tzinfo is None or not is_id(run_id):
        raise bad_cursor()
    return RunPlace(started_at, run_id)


def seq_cursor(seq: int) -> str:
    """Return the cursor of the page after the event *seq*."""
    return cursor((seq,))


def read_seq_cursor(query: Query) -> int:
    """Return the seq after which the page begins; 0 is the first page."""
    if "cursor" not in query:
        return 0
    (seq,) = read_cursor(query["cursor"], tuple[int])
    if not 0 <= seq <= SEQ_MAX:
        raise bad_cursor()
    return seq
