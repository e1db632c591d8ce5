"""Preparation of jobs: bounds, type, parameters, identity, record."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from gateway.errors import BadParameters, Forbidden
from gateway.http.child.refusals import Refusal
from gateway.http.documents import read_object, renamed
from gateway.jobs.command_records import command_record
from gateway.jobs.parsing.submission import NAMES, JobSubmission, read_submission
from gateway.jobs.parsing.types import find_type, queue_fault, types_of
from gateway.kafka.records import OutgoingRecord, Stamp
from schemas.access.credentials import Principal
from schemas.errors import Fault, Invalid
from schemas.ids import uuid7
from schemas.jobs.records import SubmitJob, content_sha256, idempotent_job_id
from schemas.jobs.rules import PRIORITY_DEFAULT, submit_faults, text_faults, type_fault
from schemas.jobs.types import DEFAULT_QUEUE, TaskType
from schemas.strictjson import FAULTS_MAX, NotJson

NO_PARAMETERS = "{}"  # of a job that was sent without any


class JobOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """The origin of jobs: the sender, the request, and what the gateway knows beside."""

    principal: Principal
    stamp: Stamp
    declared: str | None  # the setting that names task types of the installation
    queues: frozenset[str]  # those that exist
    path_type: str | None = None  # the type that the path names
    idempotency_key: str | None = None


class PreparedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A valid job and its record."""

    job_id: str
    is_derived: bool  # its id comes from an Idempotency-Key: the job may be there already
    type: str
    queue: str
    dedupe_key: str | None
    content_sha256: bytes
    received_at: datetime
    record: OutgoingRecord


class JobVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a request: valid, or refused."""

    job: PreparedJob | None = None
    refusal: Refusal | None = None


class PreparedJobs(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of a request, in the order in which they were sent."""

    jobs: Sequence[JobVerdict]


def prepare(body: bytes, origin: JobOrigin) -> PreparedJob:
    """
    Return the job in *body* and its record.

    Raises:
        NotJson: it does not parse.
        Invalid: it breaks a rule; every fault is listed.
        BadParameters: its form is right, but its type or queue is unknown or the type does not take its parameters.
        Forbidden: the key lacks the type's right.
    """
    document = read_object(body, "a job")
    members = document.members
    submission = read_submission(members, path_type=origin.path_type)
    name = submission.type
    faults = list(submission.faults)
    declared = find_type(types_of(origin.declared), name) if isinstance(name, str) and not type_fault(name) else None
    task_type = declared if isinstance(declared, TaskType) else None
    parameters = document.text("parameters") if "parameters" in members else NO_PARAMETERS
    metadata = document.text("metadata") if isinstance(submission.metadata, dict) else None
    run_at_ms = submission.run_at_ms(origin.stamp.received_at)
    fields = _with_defaults(submission, task_type, run_at_ms, _job_id(origin))
    faults += [renamed(fault, NAMES) for fault in submit_faults(fields)]
    faults += text_faults(parameters=parameters, metadata=metadata)
    faults += _limit_faults(fields, task_type)
    unusable = [declared] if isinstance(declared, Fault) else []
    if "/queue" not in (fault.pointer for fault in faults) and (task_type is not None or "queue" in submission.fields):
        unusable += filter(None, [queue_fault(str(fields["queue"]), origin.queues)])
    unusable += _parameter_faults(task_type, submission.parameters)
    if faults:
        raise Invalid((faults + unusable)[:FAULTS_MAX])
    if unusable:
        raise BadParameters(unusable[:FAULTS_MAX])
    assert task_type is not None
    check_right(task_type, origin.principal)
    command = _command(fields, submission, origin, parameters=parameters, metadata=metadata)
    return PreparedJob(
        job_id=command.job_id,
        is_derived=origin.idempotency_key is not None,
        type=command.type,
        queue=command.queue,
        dedupe_key=command.dedupe_key,
        content_sha256=command.content_sha256,
        received_at=origin.stamp.received_at,
        record=command_record(command, origin.stamp),
    )


def prepare_all(bodies: Iterable[bytes], origin: JobOrigin) -> PreparedJobs:
    """Return the jobs in *bodies*, each valid or refused by itself."""
    return PreparedJobs(jobs=[_verdict(body, origin) for body in bodies])


def check_right(task_type: TaskType, principal: Principal) -> None:
    """Raise Forbidden unless *principal* may run tasks of this type."""
    if task_type.right not in principal.rights:
        raise Forbidden(f"tasks of type {task_type.name} need the right {task_type.right.value!r}")


def _verdict(body: bytes, origin: JobOrigin) -> JobVerdict:
    try:
        return JobVerdict(job=prepare(body, origin))
    except (Forbidden, Invalid, NotJson) as error:
        return JobVerdict(refusal=Refusal.of(error))


def _job_id(origin: JobOrigin) -> str:
    if origin.idempotency_key is None:
        return str(uuid7(origin.stamp.received_at))
    return idempotent_job_id(origin.principal.tenant, origin.idempotency_key)


def _with_defaults(
    submission: JobSubmission, task_type: TaskType | None, run_at_ms: int | None, job_id: str
) -> dict[str, object]:
    """Return the fields as the record has them, those that were left out filled in."""
    defaults = {
        "queue": DEFAULT_QUEUE if task_type is None else task_type.queue,
        "priority": PRIORITY_DEFAULT,
        "max_attempts": 1 if task_type is None else task_type.max_attempts,
        "tags": [],
    }
    return {
        **defaults,
        **submission.fields,
        "job_id": job_id,
        "type": submission.type,
        "run_at_ms": run_at_ms,
    }


def _limit_faults(fields: dict[str, object], task_type: TaskType | None) -> list[Fault]:
    faults: list[Fault] = []
    run_at_ms, expires_at_ms, timeout_s = fields["run_at_ms"], fields.get("expires_at_ms"), fields.get("timeout_s")
    if isinstance(run_at_ms, int) and isinstance(expires_at_ms, int) and expires_at_ms <= run_at_ms:
        faults.append(Fault(pointer="/expires_at", detail="before the job may run"))
    if task_type is not None and isinstance(timeout_s, (int, float)) and timeout_s > task_type.hard_limit_s:
        detail = f"above the hard limit of the type, {task_type.hard_limit_s:g} s"
        faults.append(Fault(pointer="/timeout_s", detail=detail))
    return faults


def parameter_faults(task_type: TaskType, parameters: object) -> list[Fault]:
    """Return what is wrong with the parameters of a task, decoded; pointers begin with /parameters."""
    if not isinstance(parameters, dict):
        return [Fault(pointer="/parameters", detail="a JSON object")]
    try:
        task_type.read(parameters)
    except Invalid as error:
        return [Fault(pointer=f"/parameters{fault.pointer}", detail=fault.detail) for fault in error.faults]
    return []


def _parameter_faults(task_type: TaskType | None, parameters: object) -> list[Fault]:
    return [] if task_type is None else parameter_faults(task_type, parameters)


def _command(
    fields: dict[str, object], submission: JobSubmission, origin: JobOrigin, *, parameters: str, metadata: str | None
) -> SubmitJob:
    """Return the command of a job whose fields are valid, so that they convert."""
    timeout_s = fields.get("timeout_s")
    tags = fields["tags"]
    assert isinstance(tags, list)
    known = {
        **fields,
        "tags": tuple(tags),
        "timeout_s": float(timeout_s) if isinstance(timeout_s, (int, float)) else None,
        "tenant": origin.principal.tenant,
        "parameters": parameters,
        "metadata": metadata,
        "submitted_by": origin.principal.key_id,
        "content_sha256": content_sha256(submission.asked),
    }
    return msgspec.convert(known, SubmitJob)
