"""When a record was received, whatever its producer says."""

from datetime import UTC, datetime

import pytest

from processors.runtime.contract import Arrival
from processors.runtime.receiving import LATEST_MS, received_at
from schemas.kafka import headers
from tests.support import builders

WRITTEN_AT = datetime(2025, 12, 5, 10, tzinfo=UTC)
LATEST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def arrival(header: bytes | None, *, timestamp: int | None = None) -> Arrival:
    record = builders.run_event()
    raw = builders.raw(record)
    if timestamp is not None:
        raw.timestamp = timestamp
    by_name = {} if header is None else {headers.RECEIVED_AT: header}
    return Arrival(raw, by_name, record, None)  # type: ignore[arg-type]


def test_the_gateways_header_says_it() -> None:
    said = arrival(b"2026-01-01T00:00:00.123Z")
    assert received_at(said) == datetime(2026, 1, 1, 0, 0, 0, 123_000, UTC)


@pytest.mark.parametrize(
    "header", [None, b"", b"yesterday", b"\xff", b"2025-12-05T11:00:00", b"0001-01-01T00:00:00+14:00", b"2025-12-05"]
)
def test_where_a_producers_own_header_says_nothing_the_records_time_does(header: bytes | None) -> None:
    assert received_at(arrival(header)) == WRITTEN_AT


@pytest.mark.parametrize(
    ("timestamp", "moment"),
    [(-1, datetime(1970, 1, 1, tzinfo=UTC)), (1_764_928_800_000_000, LATEST), (2**63 - 1, LATEST), (LATEST_MS, LATEST)],
)
def test_a_time_that_cannot_be_is_the_nearest_that_can(timestamp: int, moment: datetime) -> None:
    assert received_at(arrival(None, timestamp=timestamp)) == moment
