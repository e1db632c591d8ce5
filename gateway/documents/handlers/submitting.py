"""Documents that are submitted: one, one that the path names, or a batch."""

from collections.abc import Mapping, Sequence

import msgspec
from aiohttp import web
from msgspec import UNSET

from gateway.documents.names import shown_chapter
from gateway.documents.objects import shown_reference
from gateway.documents.parameters import (
    IDEMPOTENCY_KEY,
    read_expected,
    read_idempotency_key,
    read_new_names,
    read_wait,
)
from gateway.documents.parsing.prepared import DocumentOrigin, PreparedDocument, PreparedDocuments
from gateway.documents.parsing.tasks import ParseDocument, ParseDocuments
from gateway.documents.parts import DocumentParts
from gateway.documents.store import DocumentJobBrief
from gateway.documents.views import (
    DocumentAccepted,
    DocumentBatchAnswer,
    DocumentLinks,
    DocumentName,
    DocumentResult,
)
from gateway.errors import RETRYABLE, BadQuery, HttpError, StoreUnavailable, problem_of
from gateway.http.answers import answer, limited
from gateway.http.bodies import BATCHES, DOCUMENTS, TEXTS
from gateway.http.body import read_body
from gateway.http.call import Call
from gateway.http.child.parsing import parse_body
from gateway.http.waiting import WAIT_MAX_S
from schemas.documents.rules import BATCH_DOCUMENTS_MAX
from schemas.documents.states import Phase
from schemas.errors import Fault
from schemas.kafka.places import RecordPlace


def links_of(job_id: str) -> DocumentLinks:
    """Return the paths of one job."""
    return DocumentLinks(status=f"/api/documents/jobs/{job_id}", cancel=f"/api/documents/jobs/{job_id}/cancel")


def name_of(collection: str, document: str) -> DocumentName:
    """Return the name of a document as answers have it."""
    return DocumentName(book_slug=collection, chapter_index=shown_chapter(document))


async def submit_document(parts: DocumentParts, call: Call) -> web.Response:
    """Accept one document; 202 promises that it is in the log, not that it can be found yet."""
    parts.intake.throttle.check_admission(1)
    waits = read_wait(call.request.query)
    origin = _origin(call)
    task = ParseDocument(body=await read_body(call), origin=origin)
    document: PreparedDocument = await parse_body(task, call.credentials, parser=parts.shared.parser)
    return await accepted(parts, call, document, origin, waits=waits)


async def put_document(parts: DocumentParts, call: Call) -> web.Response:
    """
    Accept a version of the document that the path names: JSON, or the text itself.

    With If-Match it must have that revision now, with If-None-Match: * there must be none; else 412, or if only intake
    can tell, its job fails with `precondition_failed`.
    """
    parts.intake.throttle.check_admission(1)
    waits = read_wait(call.request.query)
    origin = _origin(call, named=read_new_names(call.path))
    task = ParseDocument(body=await read_body(call, (*DOCUMENTS, *TEXTS)), origin=origin)
    document: PreparedDocument = await parse_body(task, call.credentials, parser=parts.shared.parser)
    return await accepted(parts, call, document, origin, waits=waits)


async def submit_documents(parts: DocumentParts, call: Call) -> web.Response:
    """Accept up to 500 documents: 202 if all are accepted, else 207; there is a result for each."""
    waits = read_wait(call.request.query)
    if read_idempotency_key(call.request) is not None:
        detail = f"{IDEMPOTENCY_KEY} names one document: send it with POST /api/documents"
        raise BadQuery([Fault(pointer="", detail=detail)])
    parts.intake.throttle.check_admission(BATCH_DOCUMENTS_MAX)
    origin = DocumentOrigin(principal=call.principal, stamp=call.stamp)
    task = ParseDocuments(body=await read_body(call, BATCHES), origin=origin)
    batch: PreparedDocuments = await parse_body(task, call.credentials, parser=parts.shared.parser)
    valid = [each.document for each in batch.documents if each.document is not None]
    charge, outcomes = await parts.intake.submit(valid, origin, call.credentials)
    submitted = iter(zip(valid, outcomes, strict=True))
    results = [
        _refused(each.refusal.error()) if each.refusal is not None else _result(*next(submitted))
        for each in batch.documents
    ]
    if all(result.status == "retry" for result in results) and isinstance(outcomes[0], HttpError):
        raise outcomes[0]
    job_ids = [
        document.job_id for document, outcome in zip(valid, outcomes, strict=True) if isinstance(outcome, RecordPlace)
    ]
    waited = await _waited(parts, call, job_ids) if waits and job_ids else UNSET
    document = DocumentBatchAnswer(results=results, waited=UNSET if waited is UNSET else waited is not None)
    all_accepted = all(result.status == "accepted" for result in results)
    return limited(answer(document, status=202 if all_accepted else 207), charge)


async def accepted(
    parts: DocumentParts, call: Call, document: PreparedDocument, origin: DocumentOrigin, *, waits: bool
) -> web.Response:
    """Submit one document, and answer with its place. Raises as `DocumentIntake.submit`, and why it is refused."""
    charge, (outcome,) = await parts.intake.submit([document], origin, call.credentials)
    if isinstance(outcome, HttpError):
        raise outcome
    if isinstance(outcome, DocumentJobBrief):
        return limited(answer(_duplicate(outcome)), charge)
    made = accepted_at(outcome, job_id=document.job_id, name=name_of(document.collection, document.document))
    made = msgspec.structs.replace(
        made,
        queue=parts.intake.pace.place(document.lane) or UNSET,
        object=UNSET if document.reference is None else shown_reference(document.reference),
    )
    if waits:
        made = await with_end(parts, call, made)
    return limited(answer(made, status=202), charge)


def accepted_at(place: RecordPlace, *, job_id: str, name: DocumentName) -> DocumentAccepted:
    """Return the answer for a command that is in the log."""
    return DocumentAccepted(
        job_id=job_id, document=name, revision=place.offset, wal_id=place.wal_id, links=links_of(job_id)
    )


async def with_end(parts: DocumentParts, call: Call, made: DocumentAccepted) -> DocumentAccepted:
    """Return the answer with the end of its job, waited for up to `WAIT_MAX_S`."""
    ended = await _waited(parts, call, [made.job_id])
    if ended is None:
        return msgspec.structs.replace(made, waited=False)
    return msgspec.structs.replace(made, waited=True, phase=ended[made.job_id], queue=UNSET)


async def _waited(parts: DocumentParts, call: Call, job_ids: Sequence[str]) -> Mapping[str, Phase] | None:
    """Return how jobs ended; None if not all of them have in time, or nothing is known."""

    async def look() -> Mapping[str, Phase] | None:
        found = await parts.store.ended(call.principal.tenant, job_ids)
        return found if len(found) == len(job_ids) else None

    try:
        return await parts.polling.until(look, timeout_s=WAIT_MAX_S)
    except StoreUnavailable:
        return None


def _origin(call: Call, *, named: tuple[str, str] | None = None) -> DocumentOrigin:
    return DocumentOrigin(
        principal=call.principal,
        stamp=call.stamp,
        named=named,
        expected_revision=None if named is None else read_expected(call.request),
        idempotency_key=read_idempotency_key(call.request),
    )


def _duplicate(stored: DocumentJobBrief) -> DocumentAccepted:
    return DocumentAccepted(
        job_id=stored.job_id,
        document=name_of(stored.collection, stored.document),
        revision=stored.revision,
        phase=stored.phase,
        links=links_of(stored.job_id),
        duplicate=True,
    )


def _result(document: PreparedDocument, outcome: RecordPlace | DocumentJobBrief | HttpError) -> DocumentResult:
    name = name_of(document.collection, document.document)
    if isinstance(outcome, HttpError):
        return _refused(outcome, job_id=document.job_id, name=name)
    if isinstance(outcome, DocumentJobBrief):
        return DocumentResult(status="accepted", job_id=outcome.job_id, document=name, revision=outcome.revision)
    return DocumentResult(
        status="accepted",
        job_id=document.job_id,
        document=name,
        revision=outcome.offset,
        wal_id=outcome.wal_id,
    )


def _refused(error: Exception, *, job_id: str | None = None, name: DocumentName | None = None) -> DocumentResult:
    problem = problem_of(error)
    return DocumentResult(
        status="retry" if isinstance(error, RETRYABLE) else "rejected",
        job_id=job_id,
        document=name,
        code=problem.code,
        detail=problem.detail,
        errors=problem.faults,
    )
