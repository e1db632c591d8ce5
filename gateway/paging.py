"""Query parameters of the lists: filters, page size, and cursors that are opaque to clients."""

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar, get_args

import msgspec

from gateway.errors import BadQuery
from gateway.queries.runs import RunPlace, RunView, Status
from schemas.errors import Fault
from schemas.runs.rules import SEQ_MAX, is_id

LIMIT_DEFAULT = 50
LIMIT_MAX = 500

Query = Mapping[str, str]

Place = TypeVar("Place")

WORD_PATTERN = "^[a-z][a-z0-9._-]{0,127}$"  # as the API's description has it

_WORD = re.compile(WORD_PATTERN[1:-1] + r"\Z")


def read_limit(query: Query) -> int:
    """How many entries a page is to have."""
    text = query.get("limit", str(LIMIT_DEFAULT))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(LIMIT_MAX)) and 1 <= int(text) <= LIMIT_MAX):
        raise _bad("limit", f"must be an integer between 1 and {LIMIT_MAX}")
    return int(text)


def read_agent(query: Query) -> str | None:
    """The agent whose runs are asked for; None asks for all."""
    agent = query.get("agent")
    if agent is not None and not is_id(agent):
        raise _bad("agent", "must match [A-Za-z0-9._:-]{1,128}")
    return agent


def read_status(query: Query) -> str | None:
    """The status that runs are to have; None asks for all."""
    status = query.get("status")
    if status is not None and status not in get_args(Status):
        raise _bad("status", f"must be one of {', '.join(get_args(Status))}")
    return status


def read_word(query: Query, name: str) -> str | None:
    """A filter by type or actor; None asks for all."""
    word = query.get(name)
    if word is not None and not _WORD.match(word):
        raise _bad(name, "must be a lower-case name of at most 128 characters")
    return word


def read_flag(query: Query, name: str) -> bool:
    """Whether something is asked for; it is not unless it is said."""
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise _bad(name, "must be true or false")
    return text == "true"


def read_time(query: Query, name: str) -> datetime | None:
    """A bound in time; None sets none."""
    text = query.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise _bad(name, "must be an RFC 3339 time with an offset (send a + in it as %2B)")
    return moment


def run_cursor(last: RunView) -> str:
    """The cursor of the page after *last*."""
    return _cursor((last.started_at, last.run_id))


def read_run_cursor(query: Query) -> RunPlace | None:
    """The run after which the page begins; None is the first page."""
    if "cursor" not in query:
        return None
    started_at, run_id = _read_cursor(query["cursor"], tuple[datetime, str])
    if started_at.tzinfo is None or not is_id(run_id):
        raise _bad_cursor()
    return RunPlace(started_at, run_id)


def seq_cursor(seq: int) -> str:
    """The cursor of the page after the event *seq*."""
    return _cursor((seq,))


def read_seq_cursor(query: Query) -> int:
    """The seq after which the page begins; 0 is the first page."""
    if "cursor" not in query:
        return 0
    (seq,) = _read_cursor(query["cursor"], tuple[int])
    if not 0 <= seq <= SEQ_MAX:
        raise _bad_cursor()
    return seq


def _cursor(place: tuple[object, ...]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def _read_cursor(text: str, place: type[Place]) -> Place:
    try:
        return msgspec.json.decode(base64.b64decode(text + "==", altchars=b"-_", validate=False), type=place)
    except (binascii.Error, msgspec.DecodeError, ValueError) as error:
        raise _bad_cursor() from error


def _bad_cursor() -> BadQuery:
    return _bad("cursor", "is not valid for this list; send the next_cursor of a page as it is")


def _bad(name: str, detail: str) -> BadQuery:
    return BadQuery([Fault(pointer="", detail=f"{name} {detail}", parameter=name)])
