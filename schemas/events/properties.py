"""
Normalised properties: the scalars of a payload by dotted path, derived from it and from nothing else.

`{"cart": {"total": "12.50", "items": [{"sku": "A"}]}}` has `cart.total` and `cart.items.0.sku`. Each type may have a
schema that says what its properties are, so that "12.50" is the number 12.5 for it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum

from schemas.times import moment_of, time_fault

PROPERTIES_MAX = 200
DEPTH_MAX = 8
PATH_CHARACTERS_MAX = 255
TEXT_CHARACTERS_MAX = 1024  # of a value; what is longer stands in the payload alone

Scalar = str | int | float | bool | None

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


class PropertyType(StrEnum):
    """The type to which a property is coerced."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIME = "time"  # RFC 3339 in UTC; a number is seconds since the epoch


_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,300}(?:\.[0-9]{1,300})?(?:[eE][+-]?[0-9]{1,3})?\s*\Z")
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,18}\s*\Z")

Schema = Mapping[str, PropertyType]
"""By dotted path."""


def normalised(payload: object, schema: Schema | None = None) -> dict[str, Scalar]:
    """Return the properties of a decoded payload, bounded in number, depth and length, coerced as *schema* says."""
    found: dict[str, Scalar] = {}
    for path, value in _scalars("", payload, DEPTH_MAX):
        if len(found) == PROPERTIES_MAX:
            break
        coerced = value
        if schema is not None and (wanted := schema.get(path)) is not None:
            coerced = _COERCIONS[wanted](value)
        if not isinstance(coerced, str) or len(coerced) <= TEXT_CHARACTERS_MAX:
            found.setdefault(path, coerced)
    return found


def _scalars(path: str, value: object, depth: int) -> Iterator[tuple[str, Scalar]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not depth:
        return
    for name, member in members:
        longer = f"{path}.{name}" if path else str(name)
        if len(longer) > PATH_CHARACTERS_MAX:
            continue
        if isinstance(member, (dict, list)):
            yield from _scalars(longer, member, depth - 1)
        elif longer:
            yield longer, member


# What cannot be coerced stays as it is: a wrong schema must not lose a value.


def _text(value: Scalar) -> Scalar:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if value is None else str(value)


def _number(value: Scalar) -> Scalar:
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, str):
        return value
    if not _NUMBER.match(value):
        return value
    if _INTEGER.match(value):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else value


def _boolean(value: Scalar) -> Scalar:
    text = str(value).strip().lower()
    return True if text in _TRUE else False if text in _FALSE else value


def _time(value: Scalar) -> Scalar:
    if isinstance(value, bool) or value is None:
        return value
    try:
        if isinstance(value, str):
            return value if time_fault(value) else moment_of(value).isoformat()
        return datetime.fromtimestamp(value, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return value


_COERCIONS = {
    PropertyType.TEXT: _text,
    PropertyType.NUMBER: _number,
    PropertyType.BOOLEAN: _boolean,
    PropertyType.TIME: _time,
}
