"""
Ends and second runs of documents' jobs, as every group of documents writes them.

Rows are locked in one order, here and in every group: those of collections, then a document's, then those of its jobs,
and the totals last (see `JobCounts`). A job ends once: whoever comes later finds it ended.
"""

from collections.abc import Sequence
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import msgspec
from psycopg import AsyncCursor

from processors.documents.counts import JobCounts
from schemas.documents.records import DocumentWork
from schemas.documents.states import Lane, Phase, Stage

ERROR_CHARACTERS_MAX = 2000

# A change of a job's phase in the outbox, from columns of `document_jobs`.
CHANGED: LiteralString = """
    INSERT INTO document_changes (job_id, tenant_id, collection, document, version, revision, phase, chunks_done,
        chunks, error)
    SELECT job_id, tenant_id, collection, document, version, revision, phase, chunks_done, chunks,
        left(error::text, 500)
"""

# The text of what failed or was cancelled is kept, so that it can be tried again; that of a live version always.
END_JOBS = f"""
    WITH ended AS (
        UPDATE document_jobs
        SET phase = %(phase)s, error = %(error)s::jsonb, version = version + 1, starts = 0,
            ended_at = clock_timestamp()
        WHERE job_id = ANY(%(jobs)s) AND ended_at IS NULL
        RETURNING *
    ),
    dropped AS (
        DELETE FROM document_texts
        WHERE %(phase)s IN ('superseded', 'unchanged', 'deleted') AND job_id IN (SELECT job_id FROM ended)
    ),
    changed AS ({CHANGED} FROM ended)
    SELECT job_id, extract(epoch FROM ended_at - submitted_at)::float8, tenant_id, partition, lane, cost FROM ended
"""  # noqa: S608  the parts are literals

IN_FLIGHT_BEFORE = """
    SELECT job_id FROM document_jobs
    WHERE tenant_id = %s AND collection = %s AND document = %s AND revision < %s AND ended_at IS NULL
    ORDER BY job_id FOR UPDATE
"""


RETRY = f"""
    WITH before AS (
        SELECT job_id, partition, phase FROM document_jobs
        WHERE job_id = %(job)s AND phase IN ('failed', 'cancelled')
        FOR UPDATE
    ),
    job AS (
        UPDATE document_jobs SET phase = 'submitted', generation = generation + 1, version = version + 1, starts = 0,
            attempts = 0, error = NULL, queued_at = clock_timestamp(), begun_at = NULL, chunked_at = NULL,
            embedded_at = NULL, ended_at = NULL, chunks = NULL, chunks_done = NULL
        WHERE job_id IN (SELECT job_id FROM before)
        RETURNING *
    ),
    changed AS ({CHANGED} FROM job)
    SELECT job_id::text, tenant_id, collection, document, revision, generation, lane, cost, embedders,
        before.partition, before.phase
    FROM job JOIN before USING (job_id)
"""  # noqa: S608  the parts are literals


class JobError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reason why a job failed: its stage, a word for machines, a text for people, and the chunk."""

    stage: Stage
    reason: str
    detail: str
    chunk: int | None = None

    @property
    def text(self) -> str:
        """Return its JSON text."""
        # The text of an exception may hold anything; jsonb takes neither NUL nor a lone surrogate.
        detail = self.detail[:ERROR_CHARACTERS_MAX].replace("\0", "").encode(errors="replace").decode()
        return msgspec.json.encode(msgspec.structs.replace(self, detail=detail)).decode()


class EndedJob(NamedTuple):
    """A job that has just ended, and how long after its receipt."""

    job_id: UUID
    seconds: float


def is_newest(revision: int, *others: int | None) -> bool:
    """Return True if *revision* is newer than the live and the deleted one, each None where there is none."""
    return all(other is None or revision > other for other in others)


async def end_jobs(
    cursor: AsyncCursor[Any], counts: JobCounts, jobs: Sequence[UUID], phase: Phase, *, error: JobError | None = None
) -> Sequence[EndedJob]:
    """End those of *jobs* that are in flight, and count them; return them."""
    if not jobs:
        return ()
    await cursor.execute(END_JOBS, {"jobs": list(jobs), "phase": phase, "error": None if error is None else error.text})
    ended: list[EndedJob] = []
    for job_id, seconds, tenant, partition, lane, cost in await cursor.fetchall():
        counts.add(tenant, partition, phase, lane=Lane(lane), cost=cost)
        ended.append(EndedJob(job_id, seconds))
    return ended


async def supersede_before(
    cursor: AsyncCursor[Any], counts: JobCounts, tenant: str, collection: str, document: str, *, revision: int
) -> Sequence[EndedJob]:
    """End the jobs of a document's revisions before *revision*; its row is locked."""
    await cursor.execute(IN_FLIGHT_BEFORE, (tenant, collection, document, revision))
    return await end_jobs(cursor, counts, [row[0] for row in await cursor.fetchall()], Phase.SUPERSEDED)


async def retried(cursor: AsyncCursor[Any], counts: JobCounts, job: UUID) -> DocumentWork | None:
    """Let a job that failed or was cancelled run again as its next generation; return its work, or None."""
    await cursor.execute(RETRY, {"job": job})
    row = await cursor.fetchone()
    if row is None:
        return None
    *columns, partition, phase = row
    work = work_of(columns)
    counts.take_back(work.tenant, partition, Phase(phase), lane=work.lane, cost=work.cost)
    return work


def work_of(row: Any) -> DocumentWork:
    """Return the work for a row of document_jobs: job_id, tenant, collection, ..., lane, cost, embedders."""
    job_id, tenant, collection, document, revision, generation, lane, cost, embedders = row
    return DocumentWork(
        tenant=tenant,
        collection=collection,
        document=document,
        job_id=job_id,
        revision=revision,
        generation=generation,
        lane=Lane(lane),
        cost=cost,
        embedders=embedders,
    )
