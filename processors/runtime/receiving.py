"""The times at which records were received."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from processors.runtime.contract import Arrival
from schemas.kafka import headers

LATEST_MS = 253_402_300_799_000  # the last second of the year 9999: a producer may set a record's time to anything


def received_at(arrival: Arrival[Any]) -> datetime:
    """
    Return when the gateway took the record; for a direct record, the time that its producer or the broker gave it.
    """
    header = arrival.headers.get(headers.RECEIVED_AT)
    if header is not None and arrival.rejection is None and (moment := _moment(header)) is not None:
        return moment
    return datetime.fromtimestamp(min(max(arrival.raw.timestamp, 0), LATEST_MS) / 1000, UTC)


@lru_cache(maxsize=1024)  # the records of a request share it, and so do many of a millisecond
def _moment(header: bytes) -> datetime | None:
    """Return the moment that a header names; None if it names none, as that of a direct producer may."""
    try:
        moment = datetime.fromisoformat(header.decode())
        return None if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
