"""The form of the ids that users choose (of runs, agents and whatever else a path names), and of types of events."""

import re
import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

ID_PATTERN = "^[A-Za-z0-9._:-]{1,128}$"
"""As the API's description has it; `.` and `..` are refused as well."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

TYPE_CHARACTERS_MAX = 128
TYPE_PATTERN = r"^[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*$"
"""Of the type of an event, as the API's description has it."""

_ID = re.compile(r"(?!\.{1,2}\Z)" + ID_PATTERN[1:-1] + r"\Z")  # in Python, $ lets a line break pass
_TYPE = re.compile(rf"(?=.{{1,{TYPE_CHARACTERS_MAX}}}\Z)" + TYPE_PATTERN[1:-1] + r"\Z")


def is_id(value: str) -> bool:
    """Return True if *value* may be an id."""
    return _ID.match(value) is not None


def type_fault(value: object) -> str | None:
    """Return what is wrong with the type of an event; None if nothing is."""
    if not isinstance(value, str) or not _TYPE.match(value):
        return "a lower-case dotted name of at most 128 characters"
    return None


def uuid_fault(value: object) -> str | None:
    """Return what is wrong with a UUID in its usual form; None if nothing is."""
    try:
        if isinstance(value, str) and str(UUID(value)) == value:
            return None
    except ValueError:
        pass
    return "a UUID in lower case with hyphens"


def milliseconds_of(moment: datetime) -> int:
    """Return the milliseconds from 1970 to *moment*."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def uuid7(moment: datetime) -> UUID:
    """Return a UUIDv7 (RFC 9562) of *moment*: its first 48 bits are the milliseconds, the rest is random."""
    return UUID(
        int=milliseconds_of(moment) << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    )


def moment_of_uuid7(text: str) -> datetime | None:
    """Return the moment of a UUIDv7, to the millisecond; None if *text* is not a UUIDv7, or its year is beyond 9999."""
    try:
        found = UUID(text)
        return EPOCH + timedelta(milliseconds=found.int >> 80) if found.version == 7 else None  # noqa: PLR2004
    except (ValueError, OverflowError):
        return None
