"""The form of a user event: names, bounds and fields. It needs no credentials and no record."""

import json
import re
from collections.abc import Mapping

from schemas.errors import Fault
from schemas.ids import is_id, type_fault
from schemas.texts import exceeds, label_fault
from schemas.times import time_fault

EVENT_BYTES_MAX = 100 * 1024  # of the JSON texts of payload and context together; nothing is kept in object storage
BATCH_EVENTS_MAX = 100
REQUEST_BYTES_MAX = 1024 * 1024
DEFAULT_SOURCE = "api"  # of events whose sender names none

# A number beyond these is JSON, and no `numeric` of Postgres, which jsonb keeps numbers as.
EXPONENT_MIN = -10_000
FRACTION_DIGITS_MAX = 10_000
NUMBER_FAULT = (
    f"a number with an exponent below {EXPONENT_MIN} or more than {FRACTION_DIGITS_MAX} digits behind the point"
)

_LARGE_EXPONENT = re.compile(r"[eE]-0*[1-9][0-9]{3,}")
_LONG_FRACTION = re.compile(rf"\.[0-9]{{{FRACTION_DIGITS_MAX},}}")


class _NotNumeric(Exception):
    """A number that jsonb cannot hold."""


def _run_id_fault(value: object) -> str | None:
    return None if isinstance(value, str) and is_id(value) else "[A-Za-z0-9._:-]{1,128}"


_REQUIRED = (("type", type_fault), ("event_id", label_fault), ("source", label_fault))
_OPTIONAL = (
    ("user_id", label_fault),
    ("anonymous_id", label_fault),
    ("session_id", label_fault),
    ("run_id", _run_id_fault),
    ("partition_key", label_fault),
    ("name", label_fault),
    ("occurred_at", time_fault),
)


def field_faults(fields: Mapping[str, object]) -> list[Fault]:
    """
    Return everything that is wrong with the fields of an event, named as its record has them; without its payload.

    Those that may be missing are missing or None.
    """
    faults = [
        Fault(pointer=f"/{name}", detail=detail) for name, check in _REQUIRED if (detail := check(fields.get(name)))
    ]
    for name, check in _OPTIONAL:
        value = fields.get(name)
        if value is not None and (detail := check(value)):
            faults.append(Fault(pointer=f"/{name}", detail=detail))
    return faults


def text_faults(*, payload: str, context: str | None) -> list[Fault]:
    """Return what is wrong with the JSON texts of an event, which `strictjson` takes."""
    if exceeds(payload + (context or ""), EVENT_BYTES_MAX):
        return [Fault(pointer="/payload", detail=f"more than {EVENT_BYTES_MAX} bytes, context included")]
    return [
        Fault(pointer=f"/{name}", detail=NUMBER_FAULT)
        for name, text in (("payload", payload), ("context", context))
        # A string may hold what looks like such a number: only then is the text read once more.
        if text is not None and (_LARGE_EXPONENT.search(text) or _LONG_FRACTION.search(text)) and not _is_numeric(text)
    ]


def _is_numeric(text: str) -> bool:
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
