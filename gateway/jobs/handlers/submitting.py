"""Jobs that are submitted: one, one of the type that the path names, or a batch."""

import msgspec
from aiohttp import web
from msgspec import UNSET

from gateway.errors import RETRYABLE, BadQuery, HttpError, StoreUnavailable, problem_of
from gateway.http.answers import answer, limited
from gateway.http.bodies import BATCHES
from gateway.http.body import read_body
from gateway.http.call import Call
from gateway.http.child.parsing import parse_body
from gateway.jobs.parsing.prepared import JobOrigin, PreparedJob, PreparedJobs
from gateway.jobs.parsing.tasks import ParseJob, ParseJobs
from gateway.jobs.parts import JobParts
from gateway.jobs.store import JobBrief
from gateway.jobs.views import JobAccepted, JobBatchAnswer, JobLinks, JobResult
from schemas.errors import Fault, Invalid
from schemas.jobs.rules import BATCH_JOBS_MAX
from schemas.kafka.places import RecordPlace
from schemas.texts import label_fault

IDEMPOTENCY_KEY = "Idempotency-Key"
_ACCEPTED = "the job is in the log"
_DUPLICATE = "there is such a job already"


def links_of(job_id: str) -> JobLinks:
    """Return the paths of one job."""
    return JobLinks(status=f"/api/tasks/status/{job_id}", cancel=f"/api/tasks/{job_id}", events=f"/ws/tasks/{job_id}/")


async def origin_of(parts: JobParts, call: Call, *, path_type: str | None = None) -> JobOrigin:
    """Return the origin of the jobs of *call*. Raises Invalid: its Idempotency-Key is not valid."""
    key = call.request.headers.get(IDEMPOTENCY_KEY)
    if key is not None and (fault := label_fault(key) or _utf8_fault(key)):
        raise Invalid([Fault(pointer="", detail=f"{IDEMPOTENCY_KEY} must be {fault}")])
    return JobOrigin(
        principal=call.principal,
        stamp=call.stamp,
        declared=parts.declared,
        queues=await parts.queues.names(),
        path_type=path_type,
        idempotency_key=key,
    )


async def submit_task(parts: JobParts, call: Call) -> web.Response:
    """Accept one job; 202 promises that it is in the log, not that it has run."""
    return await _submitted(parts, call, path_type=None)


async def submit_task_of_type(parts: JobParts, call: Call) -> web.Response:
    """Accept one job of the type `family/name`; as POST /api/tasks does."""
    return await _submitted(parts, call, path_type=f"{call.path['family']}/{call.path['name']}")


async def submit_tasks(parts: JobParts, call: Call) -> web.Response:
    """Accept up to 1,000 jobs: 202 if all are accepted, else 207; there is a result for each."""
    follower = parts.waiting.read(call)
    origin = await origin_of(parts, call)
    if origin.idempotency_key is not None:
        detail = f"{IDEMPOTENCY_KEY} names one job: send it with POST /api/tasks, or a dedupe_key with each"
        raise BadQuery([Fault(pointer="", detail=detail)])
    parts.intake.throttle.check_admission(BATCH_JOBS_MAX)
    task = ParseJobs(body=await read_body(call, BATCHES), origin=origin)
    batch: PreparedJobs = await parse_body(task, call.credentials, parser=parts.shared.parser)
    valid = [each.job for each in batch.jobs if each.job is not None]
    charge, outcomes = await parts.intake.submit(valid, origin, call.credentials)
    submitted = iter(zip(valid, outcomes, strict=True))
    results = [
        _refused(each.refusal.error()) if each.refusal is not None else _result(*next(submitted)) for each in batch.jobs
    ]
    if all(result.status == "retry" for result in results) and isinstance(outcomes[0], HttpError):
        raise outcomes[0]
    places = [each for each in outcomes if isinstance(each, RecordPlace)]
    document = JobBatchAnswer(
        results=results, waited=await parts.waiting.past(follower, places[-1]) if places else UNSET
    )
    all_accepted = all(result.status in ("accepted", "duplicate") for result in results)
    return limited(answer(document, status=202 if all_accepted else 207), charge)


async def _submitted(parts: JobParts, call: Call, *, path_type: str | None) -> web.Response:
    follower = parts.waiting.read(call)
    parts.intake.throttle.check_admission(1)
    origin = await origin_of(parts, call, path_type=path_type)
    task = ParseJob(body=await read_body(call), origin=origin)
    job: PreparedJob = await parse_body(task, call.credentials, parser=parts.shared.parser)
    charge, (outcome,) = await parts.intake.submit([job], origin, call.credentials)
    if isinstance(outcome, HttpError):
        raise outcome
    if isinstance(outcome, JobBrief):
        return limited(answer(_duplicate(outcome)), charge)
    document = JobAccepted(
        task_id=job.job_id,
        type=job.type,
        queue=job.queue,
        created_at=job.received_at,
        message=_ACCEPTED,
        wal_id=outcome.wal_id,
        links=links_of(job.job_id),
        waited=await parts.waiting.past(follower, outcome),
    )
    if document.waited is True:
        document = await _as_stored(parts, call, document)
    return limited(answer(document, status=202), charge)


async def _as_stored(parts: JobParts, call: Call, accepted: JobAccepted) -> JobAccepted:
    """Return the answer with what intake made of the job: it may have lost its dedupe key to another."""
    try:
        stored = await parts.store.brief(call.principal.tenant, accepted.task_id)
    except StoreUnavailable:
        stored = None
    if stored is None:
        return accepted
    if stored.duplicate_of is None:
        return msgspec.structs.replace(accepted, status=stored.status)
    return msgspec.structs.replace(accepted, status=stored.status, duplicate=True, message=_DUPLICATE)


def _duplicate(stored: JobBrief) -> JobAccepted:
    return JobAccepted(
        task_id=stored.job_id,
        status=stored.status,
        type=stored.type,
        queue=stored.queue,
        created_at=stored.created_at,
        message=_DUPLICATE,
        links=links_of(stored.job_id),
        duplicate=True,
    )


def _result(job: PreparedJob, outcome: RecordPlace | JobBrief | HttpError) -> JobResult:
    if isinstance(outcome, HttpError):
        return _refused(outcome, job_id=job.job_id)
    if isinstance(outcome, JobBrief):
        return JobResult(status="duplicate", task_id=outcome.job_id)
    return JobResult(status="accepted", task_id=job.job_id, wal_id=outcome.wal_id)


def _refused(error: Exception, *, job_id: str | None = None) -> JobResult:
    problem = problem_of(error)
    return JobResult(
        status="retry" if isinstance(error, RETRYABLE) else "rejected",
        task_id=job_id,
        code=problem.code,
        detail=problem.detail,
        errors=problem.faults,
    )


def _utf8_fault(text: str) -> str | None:
    # A header's bytes that are not UTF-8 come as surrogates, which nothing can encode.
    return "UTF-8" if any("\ud800" <= character <= "\udfff" for character in text) else None
