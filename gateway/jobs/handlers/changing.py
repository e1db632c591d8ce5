"""Changes of one job: cancel it, run it again, give it another priority."""

from aiohttp import web

from gateway.errors import NotFound, StateForbids
from gateway.http.answers import answer
from gateway.http.body import read_body
from gateway.http.call import Call
from gateway.http.child.parsing import parse_body
from gateway.jobs.changes import new_id
from gateway.jobs.parameters import NO_JOB, read_id
from gateway.jobs.parsing.changes import PreparedChange, PriorityBody
from gateway.jobs.parsing.prepared import check_right
from gateway.jobs.parsing.tasks import ParseChange
from gateway.jobs.parts import JobParts
from gateway.jobs.store import JobBrief
from gateway.jobs.views import JobChangeAnswer
from schemas.jobs.records import ChangeJob
from schemas.jobs.states import UNFINISHED, JobAction, JobStatus
from schemas.structs import read_struct


async def cancel_task(parts: JobParts, call: Call) -> web.Response:
    """Cancel a job: 200 once it is cancelled, 202 while it runs and is being cancelled."""
    tenant, job_id = call.principal.tenant, read_id(call.path["task_id"])
    _check_unfinished(await _brief(parts, tenant, job_id))
    place, applied = await parts.changes.apply(_command(call, job_id, JobAction.CANCEL), call.stamp)
    job = await parts.store.brief(tenant, job_id) if applied else None
    if job is not None and job.status in (JobStatus.COMPLETED, JobStatus.FAILED):
        _check_unfinished(job)  # it ended before the command was applied
    if job is not None and job.status is JobStatus.CANCELLED:
        return answer(JobChangeAnswer(task_id=job_id, status="cancelled", wal_id=place.wal_id))
    return answer(JobChangeAnswer(task_id=job_id, status="cancel_requested", wal_id=place.wal_id), status=202)


async def retry_task(parts: JobParts, call: Call) -> web.Response:
    """Run a failed or cancelled job again under its id; its attempts are kept."""
    tenant, job_id = call.principal.tenant, read_id(call.path["task_id"])
    job = await _brief(parts, tenant, job_id)
    if job is None:
        raise StateForbids("the job waits to be stored: only a failed or cancelled job is retried")
    if job.duplicate_of is not None:
        raise StateForbids(f"the job is a duplicate of {job.duplicate_of}: retry that one")
    if job.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
        raise StateForbids(f"the job is {job.status}: only a failed or cancelled job is retried")
    if (task_type := parts.types.get(job.type)) is not None:
        check_right(task_type, call.principal)
    place, _ = await parts.changes.apply(_command(call, job_id, JobAction.RETRY), call.stamp)
    return answer(JobChangeAnswer(task_id=job_id, status="pending", wal_id=place.wal_id), status=202)


async def reprioritise_task(parts: JobParts, call: Call) -> web.Response:
    """Give a job another priority: 200 once it has it, 202 if it will have it soon."""
    tenant, job_id = call.principal.tenant, read_id(call.path["task_id"])
    task = ParseChange(body=await read_body(call))
    change: PreparedChange = await parse_body(task, call.credentials, parser=parts.shared.parser)
    priority = read_struct(change.members, PriorityBody).priority
    job = await _brief(parts, tenant, job_id)
    _check_unfinished(job)
    command = _command(call, job_id, JobAction.REPRIORITISE, priority=priority)
    place, applied = await parts.changes.apply(command, call.stamp)
    document = JobChangeAnswer(
        task_id=job_id,
        status="running" if job is not None and job.status is JobStatus.RUNNING else "pending",
        priority=priority,
        wal_id=place.wal_id,
    )
    return answer(document, status=200 if applied else 202)


async def _brief(parts: JobParts, tenant: str, job_id: str) -> JobBrief | None:
    """Return a job; None if it may be in the log. Raises NotFound: no such job."""
    job = await parts.store.brief(tenant, job_id)
    if job is None:
        has_come = await parts.changes.has_come_to(job_id)
        job = await parts.store.brief(tenant, job_id)
        if job is None and has_come:
            raise NotFound(NO_JOB)
    return job


def _check_unfinished(job: JobBrief | None) -> None:
    if job is not None and job.status not in UNFINISHED:
        raise StateForbids(f"the job is {job.status}")


def _command(call: Call, job_id: str, action: JobAction, *, priority: int | None = None) -> ChangeJob:
    return ChangeJob(
        tenant=call.principal.tenant,
        job_id=job_id,
        command_id=new_id(),
        action=action,
        priority=priority,
        by=call.principal.key_id,
    )
