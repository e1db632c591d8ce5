"""The form of commands for jobs: bounds, names and fields. It needs no credentials and no record."""

import math
import re
from collections.abc import Mapping, Sequence

from schemas.errors import Fault, faults_among
from schemas.ids import uuid_fault
from schemas.jsonb import NUMBER_FAULT, is_numeric
from schemas.texts import exceeds, label_fault

PARAMETERS_BYTES_MAX = 100 * 1024
METADATA_BYTES_MAX = 16 * 1024
RESULT_BYTES_MAX = 256 * 1024
SUMMARY_BYTES_MAX = 2 * 1024
BATCH_JOBS_MAX = 1000
REQUEST_BYTES_MAX = 4 * 1024 * 1024
TAGS_MAX = 20
ATTEMPTS_MAX = 100
PRIORITY_DEFAULT, PRIORITY_MIN, PRIORITY_MAX = 5, 1, 10
TIMEOUT_S_MAX = 24 * 3600.0
STEP_S_DEFAULT, STEP_S_MAX = 60.0, 24 * 3600.0
RUNNING_MAX = 100_000  # of a queue's limit
OPERATION_JOBS_MAX = 100_000
TIME_MS_MAX = 253_402_300_799_000  # the last second of the year 9999

TYPE_PATTERN = r"^[a-z][a-z0-9_-]{0,63}(/[a-z0-9][a-z0-9_-]{0,63})?$"
QUEUE_PATTERN = r"^[a-z][a-z0-9_-]{0,62}$"

_TYPE = re.compile(TYPE_PATTERN[:-1] + r"\Z")
_QUEUE = re.compile(QUEUE_PATTERN[:-1] + r"\Z")


def type_fault(value: object) -> str | None:
    """Return what is wrong with the name of a task type; None if nothing is."""
    return None if isinstance(value, str) and _TYPE.match(value) else "a name such as echo or maintenance/clean-cache"


def queue_fault(value: object) -> str | None:
    """Return what is wrong with the name of a queue; None if nothing is."""
    return None if isinstance(value, str) and _QUEUE.match(value) else "a lower-case name of at most 63 characters"


def priority_fault(value: object) -> str | None:
    """Return what is wrong with a priority; None if nothing is."""
    return _whole_fault(value, PRIORITY_MIN, PRIORITY_MAX)


def tags_fault(value: object) -> str | None:
    """Return what is wrong with the tags of a job; None if nothing is."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > TAGS_MAX:
        return f"a list of at most {TAGS_MAX} texts"
    return next((f"{index}: {fault}" for index, tag in enumerate(value) if (fault := label_fault(tag))), None)


def _whole_fault(value: object, least: int, most: int) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        return f"an integer from {least} to {most}"
    return None


def _moment_fault(value: object) -> str | None:
    return _whole_fault(value, 0, TIME_MS_MAX) and "milliseconds since 1970, up to the year 9999"


def _timeout_fault(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "a number of seconds"
    if not math.isfinite(value) or not 0 < value <= TIMEOUT_S_MAX:
        return f"seconds above 0, at most {TIMEOUT_S_MAX:g}"
    return None


def _attempts_fault(value: object) -> str | None:
    return _whole_fault(value, 1, ATTEMPTS_MAX)


_REQUIRED = (
    ("job_id", uuid_fault),
    ("type", type_fault),
    ("queue", queue_fault),
    ("priority", priority_fault),
    ("max_attempts", _attempts_fault),
    ("tags", tags_fault),
)
_OPTIONAL = (
    ("run_at_ms", _moment_fault),
    ("expires_at_ms", _moment_fault),
    ("dedupe_key", label_fault),
    ("timeout_s", _timeout_fault),
    ("user_id", label_fault),
    ("schedule_id", uuid_fault),
)


def submit_faults(fields: Mapping[str, object]) -> list[Fault]:
    """Return everything that is wrong with the fields of a submission, named as its record has them."""
    return faults_among(fields, required=_REQUIRED, optional=_OPTIONAL)


def text_faults(*, parameters: str, metadata: str | None) -> list[Fault]:
    """Return what is wrong with the JSON texts of a submission, which `strictjson` takes."""
    bounds = (("parameters", parameters, PARAMETERS_BYTES_MAX), ("metadata", metadata or "", METADATA_BYTES_MAX))
    faults = [
        Fault(pointer=f"/{name}", detail=f"more than {bytes_max} bytes of JSON")
        for name, text, bytes_max in bounds
        if exceeds(text, bytes_max)
    ]
    if not faults and metadata is not None and not is_numeric(metadata):  # which is kept as jsonb
        faults.append(Fault(pointer="/metadata", detail=NUMBER_FAULT))
    return faults
