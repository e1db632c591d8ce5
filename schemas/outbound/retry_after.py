"""The header Retry-After of an answer (RFC 9110, 10.2.3). Pure."""

from datetime import datetime
from email.utils import parsedate_to_datetime

RETRY_AFTER_CHARACTERS_MAX = 64  # an HTTP date has 29


def retry_after_s(text: str, *, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, as a number or as a date; None if it is neither."""
    if text.isascii() and text.isdigit() and len(text) < 10:  # noqa: PLR2004  three centuries are enough
        return float(text)
    if len(text) > RETRY_AFTER_CHARACTERS_MAX:
        return None
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (TypeError, ValueError, OverflowError):  # no date, a date without its zone, a year of eleven digits
        return None
