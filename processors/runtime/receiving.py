"""When records were received."""

from datetime import UTC, datetime
from typing import Any

from processors.runtime.contract import Arrival
from schemas.kafka import headers

LATEST_MS = 253_402_300_799_000  # the last second of the year 9999: a producer may set a record's time to anything


def received_at(arrival: Arrival[Any]) -> datetime:
    """
    Return when the gateway took the record; for a direct record, the time that its producer or the broker gave it.
    """
    header = arrival.headers.get(headers.RECEIVED_AT)
    if header is not None and arrival.rejection is None:
        try:
            moment = datetime.fromisoformat(header.decode())
            if moment.tzinfo is not None:
                return moment.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        # It is a direct producer's own: the record's time serves.
    return datetime.fromtimestamp(min(max(arrival.raw.timestamp, 0), LATEST_MS) / 1000, UTC)
