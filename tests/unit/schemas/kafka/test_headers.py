"""What headers and timestamps of records say, whoever wrote them."""

from datetime import UTC, datetime

import pytest

from schemas.kafka.headers import moment_of, number_of


@pytest.mark.parametrize(
    ("timestamp_ms", "moment"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (-1000, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (1_767_225_600_500, datetime(2026, 1, 1, microsecond=500_000, tzinfo=UTC)),
        (2**62, None),
        (-(2**62), None),
        (253_402_300_800_000, None),  # the year 10000
        (-62_135_596_800_001, None),  # before the year 1
    ],
)
def test_a_timestamp_of_any_producer_is_a_moment_or_none(timestamp_ms: int, moment: datetime | None) -> None:
    assert moment_of(timestamp_ms) == moment


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"0", 0),
        (b"1042", 1042),
        (b"%d" % (2**63 - 1), 2**63 - 1),
        (b"9" * 19, None),
        (b"9" * 20, None),
        (b"9" * 5000, None),
    ]
    + [(each, None) for each in (None, b"", b"-1", b"1.0", b" 1", b"\xff", "\u0665".encode())],
)
def test_a_number_in_a_header_has_63_bits(value: bytes | None, number: int | None) -> None:
    assert number_of(value) == number
