"""Changes of jobs that people ask for: cancel one that is in flight, or run again one that failed or was cancelled."""

from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncCursor

from processors.documents.counts import JobCounts
from processors.documents.intake.puts import LockedDocument, lock_document
from processors.documents.moves import end_jobs, is_newest, retried
from schemas.documents.records import ChangeDocumentJob, DocumentWork
from schemas.documents.states import DocumentAction, JobKind, Phase

JOB = """
    SELECT phase, kind, revision FROM document_jobs
    WHERE job_id = %s AND tenant_id = %s AND collection = %s AND document = %s FOR UPDATE
"""
HAS_TEXT = "SELECT EXISTS (SELECT FROM document_texts WHERE job_id = %s)"


class Changed(NamedTuple):
    """The outcome of a change; `refusal` says why it was not made."""

    refusal: str | None = None
    work: DocumentWork | None = None


async def change(cursor: AsyncCursor[Any], counts: JobCounts, command: ChangeDocumentJob) -> Changed:
    """Change a job, within the caller's transaction."""
    document = await lock_document(cursor, command.tenant, command.collection, command.document)
    job = UUID(command.job_id)
    await cursor.execute(JOB, (job, command.tenant, command.collection, command.document))
    row = await cursor.fetchone()
    if row is None:
        return Changed("there is no such job")
    phase, kind, revision = row
    if command.action is DocumentAction.CANCEL:
        is_cancelled = await end_jobs(cursor, counts, [job], Phase.CANCELLED)
        return Changed() if is_cancelled else Changed(f"it is {phase}")
    if phase not in (Phase.FAILED, Phase.CANCELLED):
        return Changed(f"it is {phase}; only what failed or was cancelled can be tried again")
    if not _is_wanted(JobKind(kind), revision, document):
        return Changed("a newer command has taken its place: put the document again")
    if kind == JobKind.PUT and not await _has_text(cursor, job):
        return Changed("its text is no longer kept: put the document again")
    return Changed(work=await retried(cursor, counts, job))


def _is_wanted(kind: JobKind, revision: int, document: LockedDocument | None) -> bool:
    """Return True if a job of that kind and revision, run again, could still come to something."""
    if kind is JobKind.REEMBED:  # it has the text of the live version
        return document is not None and document.live_revision == revision
    others = () if document is None else (document.live_revision, document.deleted_revision)
    return kind is JobKind.PUT and is_newest(revision, *others)


async def _has_text(cursor: AsyncCursor[Any], job: UUID) -> bool:
    await cursor.execute(HAS_TEXT, (job,))
    row = await cursor.fetchone()
    return row is not None and bool(row[0])
