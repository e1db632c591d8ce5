"""Bodies that change jobs, queues and schedules, or ask for many changes at once."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.errors import BadParameters
from gateway.http.documents import read_object
from gateway.jobs.parsing.prepared import JobOrigin, check_right, parameter_faults
from gateway.jobs.parsing.submission import Label, Priority, Time
from gateway.jobs.parsing.types import find_type, queue_fault, types_of
from schemas.errors import Fault, Invalid
from schemas.ids import milliseconds_of
from schemas.jobs.cron import ScheduleDefinition, definition_faults
from schemas.jobs.filters import JobFilter
from schemas.jobs.rules import PARAMETERS_BYTES_MAX, RUNNING_MAX, STEP_S_DEFAULT, STEP_S_MAX, text_faults
from schemas.jobs.states import JobAction
from schemas.strictjson import FAULTS_MAX
from schemas.structs import read_struct
from schemas.times import moment_of, time_fault

Running = Annotated[int, Meta(ge=1, le=RUNNING_MAX)]

SCHEDULE_BYTES_MAX = PARAMETERS_BYTES_MAX + 16 * 1024


class PriorityBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another priority of a job."""

    priority: Priority


class PauseBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pause of a queue."""

    reason: Annotated[Label | None, Meta(description="Why, for people")] = None
    until: Annotated[Time | None, Meta(description="Resumed by itself then: RFC 3339 with offset")] = None


class QueueBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits of a queue; one that is left out ends."""

    max_running: Annotated[Running | None, Meta(description="Jobs that run at once, over all executors")] = None
    max_running_per_tenant: Annotated[Running | None, Meta(description="The same of each tenant")] = None
    step_s: Annotated[
        float, Meta(description="Seconds of waiting that count as much as a level of priority", gt=0, le=STEP_S_MAX)
    ] = STEP_S_DEFAULT


class OperationBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An action on every job that a filter matches when it is applied."""

    filter: Annotated[JobFilter, Meta(description="created_from or created_to is required")]
    action: JobAction
    priority: Annotated[Priority | None, Meta(description="With reprioritise")] = None
    dry_run: Annotated[bool, Meta(description="Count the jobs and change nothing")] = False


class PreparedSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """A valid schedule: its definition, and the text that was sent."""

    definition: ScheduleDefinition
    text: str


class PreparedChange(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON object of a body, strictly decoded."""

    members: dict[str, Any]


def moment_field(name: str, value: str | None) -> datetime | None:
    """Return the moment that a field names; None where it is left out. Raises Invalid."""
    if value is None:
        return None
    if detail := time_fault(value):
        raise Invalid([Fault(pointer=name, detail=detail)])
    return moment_of(value)


def read_operation(members: Mapping[str, Any]) -> OperationBody:
    """
    Return the operation that is asked for. Its filter may call `created_to` `created_to`, as a list's does.

    Raises:
        Invalid: it is not valid, or its parts do not fit each other.
    """
    given = members.get("filter")
    if isinstance(given, dict) and "created_to" in given and "created_to" not in given:
        renamed = {name: value for name, value in given.items() if name != "created_to"}
        members = {**members, "filter": renamed | {"created_to": given["created_to"]}}
    asked = read_struct(members, OperationBody)
    faults: list[Fault] = []
    if (asked.action is JobAction.REPRIORITISE) != (asked.priority is not None):
        faults.append(Fault(pointer="/priority", detail="reprioritise needs one, no other action takes one"))
    if asked.filter.created_from is None and asked.filter.created_to is None:
        faults.append(Fault(pointer="/filter/created_from", detail="this or created_to is required"))
    if faults:
        raise Invalid(faults)
    return asked


def read_schedule(body: bytes, origin: JobOrigin) -> PreparedSchedule:
    """
    Return the schedule in *body*.

    Raises:
        NotJson, Invalid: it is no schedule; every fault is listed.
        BadParameters: its type or queue is unknown, or the type does not take its parameters.
        Forbidden: the key lacks the type's right.
    """
    document = read_object(body, "a schedule")
    definition = read_struct(document.members, ScheduleDefinition)
    faults = definition_faults(definition)
    if "parameters" in document.members:
        faults += text_faults(parameters=document.text("parameters"), metadata=None)
    declared = find_type(types_of(origin.declared), definition.type)
    if isinstance(declared, Fault):
        unusable = [declared]
        queue = definition.queue
    else:
        unusable = parameter_faults(declared, definition.parameters)
        queue = definition.queue or declared.queue
    if queue is not None:
        unusable += filter(None, [queue_fault(queue, origin.queues)])
    if faults:
        raise Invalid((faults + unusable)[:FAULTS_MAX])
    if isinstance(declared, Fault) or unusable:
        raise BadParameters(unusable[:FAULTS_MAX])
    check_right(declared, origin.principal)
    return PreparedSchedule(definition=definition, text=document.body.decode())


def milliseconds(moment: datetime | None) -> int | None:
    """Return a moment in milliseconds since 1970; None stays None."""
    return None if moment is None else milliseconds_of(moment)
