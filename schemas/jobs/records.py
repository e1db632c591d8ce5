"""The records of jobs, one frozen type per Avro schema; field meanings and units stand in `avsc/`."""

import hashlib
from collections.abc import Mapping, Sequence
from uuid import UUID, uuid5

import msgspec

from schemas.canonical import canonical
from schemas.jobs.states import EndReason, JobAction, JobStatus, QueueAction, ScheduleAction

# Derived ids are UUIDv5 in these: the same request, or the same time of a schedule, is the same job.
IDEMPOTENCY_NAMESPACE = UUID("6b1f6f5e-2d0d-5a55-9f7c-0f3c5a1f7b01")
SCHEDULE_NAMESPACE = UUID("6b1f6f5e-2d0d-5a55-9f7c-0f3c5a1f7b02")


class SubmitJob(msgspec.Struct, frozen=True, kw_only=True):
    """A command: run a task; `parameters` and `metadata` are JSON texts."""

    tenant: str
    job_id: str
    type: str
    queue: str
    priority: int
    parameters: str
    run_at_ms: int | None = None
    expires_at_ms: int | None = None
    dedupe_key: str | None = None
    max_attempts: int
    timeout_s: float | None = None
    tags: Sequence[str] = ()
    metadata: str | None = None
    user_id: str | None = None
    submitted_by: str | None = None
    schedule_id: str | None = None
    content_sha256: bytes


class ChangeJob(msgspec.Struct, frozen=True, kw_only=True):
    """A command: cancel a job, run it again, or give it another priority."""

    tenant: str
    job_id: str
    command_id: str
    action: JobAction
    priority: int | None = None
    by: str


class ChangeQueue(msgspec.Struct, frozen=True, kw_only=True):
    """A command: pause a queue, resume it, or set its limits."""

    tenant: str
    queue: str
    command_id: str
    action: QueueAction
    reason: str | None = None
    until_ms: int | None = None
    max_running: int | None = None
    max_running_per_tenant: int | None = None
    step_s: float | None = None
    by: str


class ChangeSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """A command: store a schedule, delete, pause or resume it, or fire it now."""

    tenant: str
    schedule_id: str
    command_id: str
    action: ScheduleAction
    definition: str | None = None
    by: str


class StartOperation(msgspec.Struct, frozen=True, kw_only=True):
    """A command: apply an action to every job that a filter matches now."""

    tenant: str
    operation_id: str
    action: JobAction
    priority: int | None = None
    filter: str
    by: str


class JobChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a job after a change; of two, the one of the higher version is newer."""

    tenant: str
    job_id: str
    version: int
    type: str
    queue: str
    status: JobStatus
    reason: EndReason | None = None
    priority: int
    attempts: int
    duplicate_of: str | None = None
    error: str | None = None
    at_ms: int


class JobProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a running attempt; the newest counts, and none is kept."""

    tenant: str
    job_id: str
    attempt_id: str
    fraction: float | None = None
    message: str | None = None
    at_ms: int


class JobOutput(msgspec.Struct, frozen=True, kw_only=True):
    """Lines that a running attempt wrote; those that nobody watches are kept with the attempt alone."""

    tenant: str
    job_id: str
    attempt_id: str
    text: str
    at_ms: int


Command = SubmitJob | ChangeJob | ChangeQueue | ChangeSchedule | StartOperation


def key_of(command: Command) -> bytes:
    """Return the key of a command's record: commands for one job, queue or schedule keep their order."""
    match command:
        case SubmitJob() | ChangeJob():
            return command.job_id.encode()
        case ChangeQueue():
            return f"queue/{command.queue}".encode()
        case ChangeSchedule():
            return command.schedule_id.encode()
        case StartOperation():
            return command.operation_id.encode()


def record_id(command: Command) -> str:
    """Return the stable id of a command's record: the same over retries and duplicates in the log."""
    match command:
        case SubmitJob():
            return f"job_{command.job_id}"
        case StartOperation():
            return f"jop_{command.operation_id}"
        case _:
            return f"jcm_{command.command_id}"


def idempotent_job_id(tenant: str, key: str) -> str:
    """Return the id of the job that a tenant submits under an Idempotency-Key."""
    return str(uuid5(IDEMPOTENCY_NAMESPACE, f"{len(tenant)}:{tenant}{key}"))


def scheduled_job_id(schedule_id: str, nominal_ms: int) -> str:
    """Return the id of the job that a schedule fires for a time, in milliseconds since 1970."""
    return str(uuid5(SCHEDULE_NAMESPACE, f"{schedule_id}/{nominal_ms}"))


def content_sha256(content: Mapping[str, object]) -> bytes:
    """Return the digest of what was asked of a job, None left out: a repeated request has the same."""
    return hashlib.sha256(canonical({name: value for name, value in content.items() if value is not None})).digest()
