"""Jobs of documents: their state, lists of them, and changes: cancel one, run it again."""

import msgspec
from aiohttp import web
from msgspec import UNSET

from gateway.documents.changes import new_id
from gateway.documents.handlers.submitting import links_of
from gateway.documents.parameters import (
    NO_JOB,
    job_cursor,
    read_id,
    read_job_cursor,
    read_job_filter,
    read_long_poll,
)
from gateway.documents.parts import DocumentParts
from gateway.documents.store import DocumentJobBrief
from gateway.documents.views import DocumentJobChanged, DocumentJobPage, HiddenDocumentJob
from gateway.errors import NotFound, StateForbids
from gateway.http.answers import answer, page
from gateway.http.call import Call
from gateway.http.paging import read_limit
from schemas.documents.records import ChangeDocumentJob
from schemas.documents.states import IN_FLIGHT, DocumentAction, JobKind, Phase


async def show_document_job(parts: DocumentParts, call: Call) -> web.Response:
    """Return one job with its progress, whether it is stored yet or not; with `wait` held until it has ended."""
    tenant, job_id = call.principal.tenant, read_id(call.path["job_id"])
    wait_s = read_long_poll(call.request.query)
    if wait_s and await parts.store.brief(tenant, job_id) is not None:

        async def ended() -> object | None:
            return (await parts.store.ended(tenant, [job_id])).get(job_id)

        await parts.polling.until(ended, timeout_s=wait_s)
    job = await parts.store.job(tenant, job_id)
    if job is None:
        has_come = parts.intake.recent.find(tenant, job_id) is None and await parts.changes.has_come_to_all()
        job = await parts.store.job(tenant, job_id)
        if job is None and has_come:
            raise NotFound(NO_JOB)
    if job is None:
        return answer(HiddenDocumentJob(job_id=job_id, links=links_of(job_id)))
    queue = job.queue if job.queue is UNSET else parts.intake.pace.timed(job.queue)
    return answer(msgspec.structs.replace(job, queue=queue, links=links_of(job_id)))


async def list_document_jobs(parts: DocumentParts, call: Call) -> web.Response:
    """List jobs, the newest first."""
    query = call.request.query
    jobs, last = await parts.store.jobs(
        call.principal.tenant, read_job_filter(query), after=read_job_cursor(query), limit=read_limit(query)
    )
    return page(call.request, DocumentJobPage(jobs=jobs, next_cursor=None if last is None else job_cursor(last)))


async def cancel_document_job(parts: DocumentParts, call: Call) -> web.Response:
    """Cancel a job that has not ended: the version before it stays."""
    return await _changed(parts, call, DocumentAction.CANCEL)


async def retry_document_job(parts: DocumentParts, call: Call) -> web.Response:
    """Run a failed or cancelled job again, as the same revision: a newer one still takes its place."""
    return await _changed(parts, call, DocumentAction.RETRY)


async def _changed(parts: DocumentParts, call: Call, action: DocumentAction) -> web.Response:
    tenant, job_id = call.principal.tenant, read_id(call.path["job_id"])
    collection, document = await _named(parts, tenant, job_id, action)
    command = ChangeDocumentJob(
        tenant=tenant,
        collection=collection,
        document=document,
        job_id=job_id,
        command_id=new_id(),
        action=action,
        by=call.principal.key_id,
    )
    [place], applied = await parts.changes.apply([command], call.stamp)
    after = await parts.store.brief(tenant, job_id) if applied else None
    phase = Phase.SUBMITTED if after is None else after.phase
    document_changed = DocumentJobChanged(job_id=job_id, phase=phase, wal_id=place.wal_id, applied=applied)
    return answer(document_changed, status=202)


async def _named(parts: DocumentParts, tenant: str, job_id: str, action: DocumentAction) -> tuple[str, str]:
    """
    Return the collection and the document of a job that may be changed so.

    Raises:
        NotFound: there is no such job.
        StateForbids: its state does not allow it.
    """
    job = await parts.store.brief(tenant, job_id)
    if job is None and (recent := parts.intake.recent.find(tenant, job_id)) is not None:
        if action is DocumentAction.RETRY:
            raise StateForbids("the job waits to be stored: only a failed or cancelled job is retried")
        return recent.collection, recent.document
    if job is None:
        has_come = await parts.changes.has_come_to_all()
        job = await parts.store.brief(tenant, job_id)
        if job is None and has_come:
            raise NotFound(NO_JOB)
    if job is None:
        raise StateForbids("the job is not stored yet: try again soon")
    _check(job, action)
    return job.collection, job.document


def _check(job: DocumentJobBrief, action: DocumentAction) -> None:
    if action is DocumentAction.CANCEL and job.phase not in IN_FLIGHT:
        raise StateForbids(f"the job is {job.phase}")
    if action is DocumentAction.RETRY and job.kind is JobKind.DELETE:
        raise StateForbids("the job deletes: delete the document again")
    if action is DocumentAction.RETRY and job.phase not in (Phase.FAILED, Phase.CANCELLED):
        raise StateForbids(f"the job is {job.phase}: only a failed or cancelled job is retried")
