"""The header Retry-After, whatever a stranger puts into it."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from schemas.outbound.retry_after import retry_after_s

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("9" * 400, None),
        ("\u0665", None),
        ("Mon, 20 Nov 99999999999 19:12:08 GMT", None),
        ("Mon, 20 Nov 99999999999999999999999 19:12:08 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("Mon, 20 Nov 2026 19:12:08 +99999999999999", None),
        ("Mon, 20 Nov 2026 19:12:08", None),
        ("Mon, 99 Nov 2026 99:99:99 GMT", None),
        ("1" * 9 + "." * 9, None),
        ("(" * 10_000, None),
        ("NaN", None),
        ("1e999", None),
        ("\udcff", None),
    ],
)
def test_retry_after_is_seconds_or_a_moment(text: str, seconds: float | None) -> None:
    assert retry_after_s(text, now=NOW) == seconds
