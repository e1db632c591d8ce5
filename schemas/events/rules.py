"""The form of a user event: names, bounds and fields. It needs no credentials and no record."""

from collections.abc import Mapping

from schemas.errors import Fault, faults_among
from schemas.ids import is_id, type_fault
from schemas.jsonb import NUMBER_FAULT, is_numeric
from schemas.texts import exceeds, label_fault
from schemas.times import time_fault

EVENT_BYTES_MAX = 100 * 1024  # of the JSON texts of payload and context together; nothing is kept in object storage
BATCH_EVENTS_MAX = 100
REQUEST_BYTES_MAX = 1024 * 1024
DEFAULT_SOURCE = "api"  # of events whose sender names none


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
    return faults_among(fields, required=_REQUIRED, optional=_OPTIONAL)


def text_faults(*, payload: str, context: str | None) -> list[Fault]:
    """Return what is wrong with the JSON texts of an event, which `strictjson` takes."""
    if exceeds(payload + (context or ""), EVENT_BYTES_MAX):
        return [Fault(pointer="/payload", detail=f"more than {EVENT_BYTES_MAX} bytes, context included")]
    return [
        Fault(pointer=f"/{name}", detail=NUMBER_FAULT)
        for name, text in (("payload", payload), ("context", context))
        if text is not None and not is_numeric(text)
    ]
