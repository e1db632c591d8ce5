"""Times that senders write: RFC 3339 texts with an offset, which Postgres and Python can hold as moments."""

import re
from datetime import UTC, datetime

OFFSET_S_MAX = 16 * 3600  # Postgres takes less; up to 23:59 would parse

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})\Z")


def time_fault(value: object) -> str | None:
    """Return what is wrong with a time; None if nothing is."""
    if not isinstance(value, str) or not _TIME.match(value):
        return "an RFC 3339 time with its offset"
    try:
        moment = datetime.fromisoformat(value.upper())
        if moment.tzinfo is UTC:  # nearly always
            return None
        moment.astimezone(UTC)
    except ValueError:
        return "no such time"
    except OverflowError:  # Postgres would store it, and nobody could read it as a datetime again
        return "not within the years 1 to 9999 of UTC"
    offset = moment.utcoffset()
    if offset is None or abs(offset.total_seconds()) >= OFFSET_S_MAX:
        return "no such offset"
    return None


def moment_of(text: str) -> datetime:
    """Return the moment that a valid time names, in UTC."""
    return datetime.fromisoformat(text.upper()).astimezone(UTC)
