"""JSON that Postgres keeps as jsonb: its numbers must be ones of type `numeric`."""

import json
import re

EXPONENT_MIN = -10_000
FRACTION_DIGITS_MAX = 10_000
NUMBER_FAULT = (
    f"a number with an exponent below {EXPONENT_MIN} or more than {FRACTION_DIGITS_MAX} digits behind the point"
)

_LARGE_EXPONENT = re.compile(r"[eE]-0*[1-9][0-9]{3,}")
_LONG_FRACTION = re.compile(rf"\.[0-9]{{{FRACTION_DIGITS_MAX},}}")


class _NotNumeric(Exception):
    """A number that jsonb cannot hold."""


def is_numeric(text: str) -> bool:
    """Return True if jsonb can hold each number of a JSON text that `strictjson` takes."""
    # A string may hold what looks like such a number: only then is the text read once more.
    if not (_LARGE_EXPONENT.search(text) or _LONG_FRACTION.search(text)):
        return True
    try:
        json.loads(text, parse_float=_check_number)
    except _NotNumeric:
        return False
    return True


def _check_number(text: str) -> None:
    mantissa, _, exponent = text.lower().partition("e")
    digits = len(mantissa.partition(".")[2])
    if digits > FRACTION_DIGITS_MAX or _exponent(exponent) - digits < EXPONENT_MIN:
        raise _NotNumeric


def _exponent(text: str) -> int:
    digits = text.lstrip("+-0")
    if len(digits) > len(str(-EXPONENT_MIN)):
        return EXPONENT_MIN - 1 if text.startswith("-") else 0  # strictjson refuses a large positive one
    return int(text or "0")
