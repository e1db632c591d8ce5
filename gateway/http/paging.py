"""Query parameters of the lists: filters, page size, and cursors that are opaque to clients."""

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from gateway.errors import BadQuery
from gateway.http.routes import Parameter
from schemas.errors import Fault
from schemas.texts import label_fault

LIMIT_DEFAULT = 50
LIMIT_MAX = 500
MEMBER_CHARACTERS_MAX = 1024

Query = Mapping[str, str]

Place = TypeVar("Place")
Choice = TypeVar("Choice", bound=StrEnum)

WORD_PATTERN = "^[a-z][a-z0-9._-]{0,127}$"  # as the API's description has it

BY_CURSOR = (
    Parameter(
        name="limit",
        type=Annotated[int, Meta(ge=1, le=LIMIT_MAX)],
        description=f"Entries a page; {LIMIT_DEFAULT} by default",
    ),
    Parameter(name="cursor", type=str, description="next_cursor of the page before"),
)
"""The query parameters of a list whose pages go on by a cursor."""

_WORD = re.compile(WORD_PATTERN[1:-1] + r"\Z")


def read_limit(query: Query, *, largest: int = LIMIT_MAX) -> int:
    """Return the number of entries of a page."""
    return read_number(query, "limit", default=min(LIMIT_DEFAULT, largest), largest=largest)


def read_number(query: Query, name: str, *, default: int, largest: int, smallest: int = 1) -> int:
    """Return an integer between *smallest* and *largest*; *default* where nothing is asked."""
    text = query.get(name, str(default))
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(largest))
    if not (is_number and smallest <= int(text) <= largest):
        raise bad(name, f"must be an integer between {smallest} and {largest}")
    return int(text)


def read_label(query: Query, name: str) -> str | None:
    """Return a filter by a label; None asks for all."""
    value = query.get(name)
    if value is not None and (fault := label_fault(value)):
        raise bad(name, f"must be {fault}")
    return value


def read_choice(query: Query, name: str, choices: type[Choice]) -> Choice | None:
    """Return a filter by one of a closed set; None asks for all."""
    text = query.get(name)
    if text is not None and text not in tuple(choices):
        raise bad(name, f"must be one of {', '.join(choices)}")
    return None if text is None else choices(text)


def read_member(query: Query, name: str) -> tuple[str, object] | None:
    """Return a filter by a member of a document: `path=value`, the value as JSON, or else a text; None asks for all."""
    text = query.get(name)
    if text is None:
        return None
    path, separator, value = text.partition("=")
    if not (path and separator) or len(text) > MEMBER_CHARACTERS_MAX or "\0" in text:
        raise bad(name, f"must be path=value, of at most {MEMBER_CHARACTERS_MAX} characters")
    try:
        decoded: object = msgspec.json.decode(value, type=str | int | float | bool | None)
    except (msgspec.DecodeError, UnicodeEncodeError):
        decoded = value
    if isinstance(decoded, str) and "\0" in decoded:
        raise bad(name, "must hold no NUL character")
    return path, decoded


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
