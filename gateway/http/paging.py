"""Query parameters of the lists: filters, page size, and cursors that are opaque to clients."""

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

import msgspec

from gateway.errors import BadQuery
from schemas.errors import Fault

LIMIT_DEFAULT = 50
LIMIT_MAX = 500

Query = Mapping[str, str]

Place = TypeVar("Place")

WORD_PATTERN = "^[a-z][a-z0-9._-]{0,127}$"  # as the API's description has it

_WORD = re.compile(WORD_PATTERN[1:-1] + r"\Z")


def read_limit(query: Query) -> int:
    """Return the number of entries of a page."""
    text = query.get("limit", str(LIMIT_DEFAULT))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(LIMIT_MAX)) and 1 <= int(text) <= LIMIT_MAX):
        raise bad("limit", f"must be an integer between 1 and {LIMIT_MAX}")
    return int(text)


def read_word(query: Query, name: str) -> str | None:
    """Return a filter by type or actor; None asks for all."""
    word = query.get(name)
    if word is not None and not _WORD.match(word):
        raise bad(name, "must be a lower-case name of at most 128 characters")
    return word


def read_flag(query: Query, name: str) -> bool:
    """Return True if the flag is set; it is not by default."""
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise bad(name, "must be true or false")
    return text == "true"


def read_time(query: Query, name: str) -> datetime | None:
    """Return a bound in time; None sets none."""
    text = query.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise bad(name, "must be an RFC 3339 time with an offset (send a + in it as %2B)")
    return moment


def cursor(place: tuple[object, ...]) -> str:
    """Return the text of a cursor, opaque to clients."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def read_cursor(text: str, place: type[Place]) -> Place:
    """Return the place that `cursor` made *text* of. Raises BadQuery."""
    try:
        return msgspec.json.decode(base64.b64decode(text + "==", altchars=b"-_", validate=False), type=place)
    except (binascii.Error, msgspec.DecodeError, ValueError) as error:
        raise bad_cursor() from error


def bad_cursor() -> BadQuery:
    """Return the error for a cursor that is not valid."""
    return bad("cursor", "is not valid for this list; send the next_cursor of a page as it is")


def bad(name: str, detail: str) -> BadQuery:
    """Return the error for the parameter *name*."""
    return BadQuery([Fault(pointer="", detail=f"{name} {detail}", parameter=name)])
