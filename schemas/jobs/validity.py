"""
The rules for a record of `jobs.commands` that no gateway of ours has sealed: anyone with access to Kafka can produce.

A direct producer may submit jobs and change them; queues and schedules are changed through a gateway, which knows the
rights of a key.
"""

import msgspec

from schemas import strictjson
from schemas.access.credentials import Credentials
from schemas.errors import Fault, Invalid, Poison, Reason, Rejection
from schemas.ids import uuid_fault
from schemas.jobs.records import ChangeJob, Command, SubmitJob, content_sha256, key_of
from schemas.jobs.rules import priority_fault, submit_faults, text_faults
from schemas.jobs.states import JobAction
from schemas.texts import label_fault


def check_direct(command: Command, *, key: bytes | None, credentials: Credentials) -> Rejection | None:
    """
    Return why a record is not valid that was produced to Kafka directly; None if it is.

    Raises:
        Poison: it holds a NUL, which no text column can keep.
    """
    values = msgspec.structs.asdict(command).values()
    texts = [text for value in values for text in (value if isinstance(value, tuple) else (value,))]
    if any("\0" in text for text in texts if isinstance(text, str)):
        raise Poison(Reason.NUL_CHARACTER, "a text field holds a NUL character")
    if key != key_of(command):
        return Rejection(reason=Reason.KEY_MISMATCH, detail="the record's key is not the one that its content gives it")
    tenant = credentials.tenants.get(command.tenant)
    if tenant is None:
        return Rejection(reason=Reason.UNKNOWN_TENANT, detail=f"no tenant {command.tenant!r}")
    if not tenant.allow_unsigned_direct:
        return Rejection(reason=Reason.UNSIGNED_DIRECT, detail="the tenant takes no unsigned direct records")
    match command:
        case SubmitJob():
            return _submit_rejection(command)
        case ChangeJob():
            return _rejected(_change_faults(command))
        case _:
            detail = "queues, schedules and operations are changed through the gateway"
            return Rejection(reason=Reason.INVALID_EVENT, detail=detail)


def content_of(command: SubmitJob, *, parameters: object, metadata: object) -> bytes:
    """Return the digest of a submission, its JSON texts decoded."""
    fields = msgspec.structs.asdict(command)
    for name in ("tenant", "job_id", "submitted_by", "content_sha256"):
        del fields[name]
    return content_sha256(fields | {"parameters": parameters, "metadata": metadata, "tags": list(command.tags)})


def _submit_rejection(command: SubmitJob) -> Rejection | None:
    fields = msgspec.structs.asdict(command)
    faults = submit_faults(fields) + text_faults(parameters=command.parameters, metadata=command.metadata)
    if command.submitted_by is not None or command.schedule_id is not None:
        faults.append(Fault(pointer="/submitted_by", detail="a direct record leaves it and schedule_id empty"))
    if faults:
        return _rejected(faults)
    try:
        parameters = strictjson.decode_part("parameters", command.parameters)
        metadata = None if command.metadata is None else strictjson.decode_part("metadata", command.metadata)
    except Invalid as error:
        return _rejected(error.faults)
    except strictjson.NotJson as error:
        return Rejection(reason=Reason.INVALID_EVENT, detail=str(error))
    if not isinstance(parameters, dict) or not isinstance(metadata, dict | None):
        return Rejection(reason=Reason.INVALID_EVENT, detail="/parameters and /metadata: JSON objects")
    if content_of(command, parameters=parameters, metadata=metadata) != command.content_sha256:
        detail = "content_sha256 is not the digest of the submission's content"
        return Rejection(reason=Reason.DIGEST_MISMATCH, detail=detail)
    return None


def _change_faults(command: ChangeJob) -> list[Fault]:
    checks = [("job_id", uuid_fault(command.job_id)), ("command_id", uuid_fault(command.command_id))]
    checks.append(("by", label_fault(command.by)))
    if command.action is JobAction.REPRIORITISE:
        checks.append(("priority", priority_fault(command.priority)))
    return [Fault(pointer=f"/{name}", detail=detail) for name, detail in checks if detail]


def _rejected(faults: list[Fault]) -> Rejection | None:
    return Rejection(reason=Reason.INVALID_EVENT, detail=str(Invalid(faults))) if faults else None
