"""A job as a client submits it: its fields, and what is wrong with them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.http.documents import unknown_fault
from schemas.errors import Fault
from schemas.ids import milliseconds_of
from schemas.jobs.rules import (
    ATTEMPTS_MAX,
    PRIORITY_DEFAULT,
    PRIORITY_MAX,
    PRIORITY_MIN,
    QUEUE_PATTERN,
    TAGS_MAX,
    TIMEOUT_S_MAX,
    TYPE_PATTERN,
)
from schemas.texts import LABEL_CHARACTERS_MAX, LABEL_PATTERN
from schemas.times import moment_of, time_fault

DELAY_S_MAX = 10 * 366 * 24 * 3600.0  # ten years

Label = Annotated[str, Meta(pattern=LABEL_PATTERN, max_length=LABEL_CHARACTERS_MAX)]
TypeName = Annotated[str, Meta(description="The task type: GET /api/tasks/types lists them", pattern=TYPE_PATTERN)]
QueueName = Annotated[str, Meta(pattern=QUEUE_PATTERN)]
Priority = Annotated[int, Meta(description="10 is the most urgent", ge=PRIORITY_MIN, le=PRIORITY_MAX)]
Time = Annotated[str, Meta(description="RFC 3339 with offset", extra_json_schema={"format": "date-time"})]

# The fields that a body may have; those of the first line have a name of their own in the record.
_TIMES = {"run_at": "run_at_ms", "expires_at": "expires_at_ms"}
_PLAIN = ("queue", "priority", "dedupe_key", "max_attempts", "timeout_s", "tags", "user_id")
_KNOWN = frozenset({"type", "task_type", "parameters", "metadata", "delay_s", *_TIMES, *_PLAIN})

NAMES: Mapping[str, str] = {name: given for given, name in _TIMES.items()}
"""The fields that a client knows by another name than the record has."""


class JobOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job whose type the path names."""

    parameters: Annotated[
        dict[str, Any], Meta(description="By the schema of the type, which GET /api/tasks/types shows")
    ] = {}
    queue: Annotated[QueueName | UnsetType, Meta(description="The type's own by default")] = UNSET
    priority: Priority = PRIORITY_DEFAULT
    run_at: Annotated[Time | UnsetType, Meta(description="Not before this time: RFC 3339 with offset")] = UNSET
    delay_s: Annotated[
        Annotated[float, Meta(ge=0, le=DELAY_S_MAX)] | UnsetType, Meta(description="Instead of run_at: from now")
    ] = UNSET
    expires_at: Annotated[Time | UnsetType, Meta(description="Cancelled if it was not started by then")] = UNSET
    dedupe_key: Annotated[
        Label | UnsetType,
        Meta(description="At most one unfinished job of the type has it: a second one is a duplicate"),
    ] = UNSET
    max_attempts: Annotated[
        Annotated[int, Meta(ge=1, le=ATTEMPTS_MAX)] | UnsetType, Meta(description="The type's own by default")
    ] = UNSET
    timeout_s: Annotated[
        Annotated[float, Meta(gt=0, le=TIMEOUT_S_MAX)] | UnsetType,
        Meta(description="A soft limit of this job, at most the type's hard limit"),
    ] = UNSET
    tags: Annotated[list[Label], Meta(description="Labels to find it by", max_length=TAGS_MAX)] = []
    metadata: Annotated[dict[str, Any] | UnsetType, Meta(description="Kept with the job, to find it by")] = UNSET
    user_id: Annotated[Label | UnsetType, Meta(description="The user whom it is for")] = UNSET


class JobBody(JobOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job; `task_type` is an older name of `type`."""

    type: TypeName | UnsetType = UNSET
    task_type: TypeName | UnsetType = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSubmission:
    """The fields of a job that were sent, by their names in the record; and what is wrong with their form."""

    type: object
    fields: Mapping[str, object]
    parameters: object
    metadata: object
    delay_s: float | None
    faults: list[Fault] = field(default_factory=list)

    @property
    def asked(self) -> Mapping[str, object]:
        """Return what was asked for, which a repeated request has the same: a delay, and not the time it comes to."""
        tags = self.fields.get("tags")
        return {
            **self.fields,
            "type": self.type,
            "priority": self.fields.get("priority", PRIORITY_DEFAULT),
            "parameters": self.parameters,
            "metadata": self.metadata,
            "delay_s": self.delay_s,
            "tags": tags or None,
        }

    def run_at_ms(self, received_at: datetime) -> int | None:
        """Return when the job may run, in milliseconds since 1970; None: at once."""
        if not self.delay_s:
            at_ms = self.fields.get("run_at_ms")
            return at_ms if isinstance(at_ms, int) else None
        return milliseconds_of(received_at + timedelta(seconds=self.delay_s))


def read_submission(members: Mapping[str, Any], *, path_type: str | None) -> JobSubmission:
    """Return the fields of a job; *path_type* is the type that the path names. Null is the same as missing."""
    given = {name: value for name, value in members.items() if value is not None or name in ("type", "task_type")}
    faults = [unknown_fault(name) for name in members if name not in _KNOWN]
    fields: dict[str, object] = {name: given[name] for name in _PLAIN if name in given}
    for name, record_name in _TIMES.items():
        if name in given:
            if detail := time_fault(given[name]):
                faults.append(Fault(pointer=f"/{name}", detail=detail))
            else:
                fields[record_name] = milliseconds_of(moment_of(given[name]))
    delay_s = given.get("delay_s")
    if "run_at" in given and "delay_s" in given:
        faults.append(Fault(pointer="/delay_s", detail="run_at says when already: send one of the two"))
    if "delay_s" in given and (detail := _delay_fault(delay_s)):
        faults.append(Fault(pointer="/delay_s", detail=detail))
        delay_s = None
    metadata = given.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        faults.append(Fault(pointer="/metadata", detail="a JSON object"))
    return JobSubmission(
        type=_type(given, path_type, faults),
        fields=fields,
        parameters=members.get("parameters", {}),
        metadata=metadata,
        delay_s=delay_s,
        faults=faults,
    )


def _type(given: Mapping[str, object], path_type: str | None, faults: list[Fault]) -> object:
    if "type" in given and "task_type" in given:
        faults.append(Fault(pointer="/task_type", detail="the same as /type: send one of the two"))
    name = "task_type" if "task_type" in given and "type" not in given else "type"
    if path_type is None:
        return given.get(name)
    if name in given and given[name] != path_type:
        faults.append(Fault(pointer=f"/{name}", detail="the path names another type; leave it out"))
    return path_type


def _delay_fault(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "a number of seconds"
    if not math.isfinite(value) or not 0 <= value <= DELAY_S_MAX:
        return f"seconds from 0 to {DELAY_S_MAX:.0f}"
    return None
