"""
The journal of attempts: what is begun is written before a document is touched.

So a document whose worker dies each time is noticed: after `DEATHS_MAX` deaths it fails, and its record is a dead
letter. One that has a death behind it is worked alone, since the deaths of others would be counted as its own.
"""

from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import msgspec
from psycopg import AsyncCursor

from processors.documents.counts import JobCounts
from processors.documents.moves import CHANGED, EndedJob, JobError, end_jobs, is_newest, retried
from processors.postgres.writes import PostgresWrites
from schemas.documents.records import DocumentWork
from schemas.documents.states import JobKind, Lane, Phase

DEATHS_MAX = 3

LOOK = """
    SELECT phase, ended_at IS NOT NULL, embedded_at IS NOT NULL, generation, starts
    FROM document_jobs WHERE job_id = %s
"""
BEGIN = """
    WITH begun AS (
        UPDATE document_jobs SET starts = starts + 1, begun_at = coalesce(begun_at, clock_timestamp())
        WHERE job_id = %(job)s AND generation = %(generation)s AND ended_at IS NULL AND embedded_at IS NULL
        RETURNING *
    )
    SELECT kind, begun.revision, starts, attempts, max_retries, skips_bad, is_markdown, begun.source, priority,
        begun.metadata, documents.live_revision, documents.deleted_revision, texts.text, texts.source
    FROM begun
    JOIN documents USING (tenant_id, collection, document)
    LEFT JOIN document_texts AS texts
        ON texts.job_id = CASE WHEN kind = 'reembed' THEN documents.live_job ELSE begun.job_id END
"""
GIVE_BACK = "UPDATE document_jobs SET starts = greatest(0, starts - 1) WHERE job_id = %s AND generation = %s"
FAILED_ATTEMPT = f"""
    WITH job AS (
        UPDATE document_jobs
        SET phase = 'submitted', starts = 0, attempts = attempts + 1, error = %(error)s::jsonb, version = version + 1
        WHERE job_id = %(job)s AND generation = %(generation)s AND ended_at IS NULL
        RETURNING *
    )
    {CHANGED} FROM job
"""  # noqa: S608  the parts are literals
# The cost of a file was an estimate. One that has ended stays counted as it was.
_BEFORE: LiteralString = """
    before AS (
        SELECT tenant_id, partition, lane, cost FROM document_jobs
        WHERE job_id = %(job)s AND ended_at IS NULL
        FOR UPDATE
    )
"""
READ_FILE = f"""
    WITH {_BEFORE},
    texts AS (
        UPDATE document_texts SET text = %(text)s, source = NULL WHERE job_id = %(job)s
    ),
    job AS (
        UPDATE document_jobs SET is_markdown = %(is_markdown)s, parser = %(parser)s, text_sha256 = %(text_sha256)s,
            metadata = %(metadata)s::jsonb, cost = CASE WHEN EXISTS (SELECT FROM before) THEN %(cost)s ELSE cost END
        WHERE job_id = %(job)s
    )
    SELECT tenant_id, partition, lane, cost FROM before
"""  # noqa: S608  the parts are literals
CHUNKED = f"""
    WITH job AS (
        UPDATE document_jobs
        SET phase = 'chunked', chunks = %(chunks)s, chunks_done = 0, chunked_at = clock_timestamp(),
            version = version + 1
        WHERE job_id = %(job)s AND generation = %(generation)s AND ended_at IS NULL
        RETURNING *
    )
    {CHANGED} FROM job
"""  # noqa: S608
PROGRESS = f"""
    WITH job AS (
        UPDATE document_jobs SET phase = 'embedding', chunks_done = %(done)s, version = version + 1
        WHERE job_id = %(job)s AND generation = %(generation)s AND ended_at IS NULL
        RETURNING *
    )
    {CHANGED} FROM job
"""  # noqa: S608
# The version may be stored before this is written: the log is fast.
EMBEDDED = """
    UPDATE document_jobs SET starts = 0, embedded_at = least(clock_timestamp(), ended_at)
    WHERE job_id = %s AND generation = %s
"""
BECAME_PARTS = f"""
    WITH {_BEFORE},
    texts AS (DELETE FROM document_texts WHERE job_id = %(job)s),
    job AS (
        UPDATE document_jobs SET parts = %(parts)s::jsonb, parser = %(parser)s,
            cost = CASE WHEN EXISTS (SELECT FROM before) THEN %(cost)s ELSE cost END
        WHERE job_id = %(job)s
    )
    SELECT tenant_id, partition, lane, cost FROM before
"""  # noqa: S608


class Look(NamedTuple):
    """The state of a job before it is begun."""

    phase: str
    has_ended: bool
    is_embedded: bool
    generation: int
    starts: int


class Begun(NamedTuple):
    """A job that is begun, with its text, or with the file that it is to be read out of."""

    kind: str
    revision: int
    starts: int
    attempts: int
    max_retries: int
    skips_bad: bool
    is_markdown: bool
    source: dict[str, Any] | None
    priority: int
    metadata: dict[str, Any] | None
    live_revision: int | None
    deleted_revision: int | None
    text: str | None
    file: bytes | None

    def is_superseded(self) -> bool:
        """Return True if this revision of the document is not wanted any more."""
        if self.kind == JobKind.REEMBED:
            return self.live_revision != self.revision
        return not is_newest(self.revision, self.live_revision, self.deleted_revision)


class Journal:
    """The attempts of jobs, as a worker of the group documents.embed writes them."""

    def __init__(self, writes: PostgresWrites) -> None:
        """Write by the connections of *writes*; each method raises Transient while Postgres is away."""
        self._writes = writes

    async def look(self, work: DocumentWork) -> Look | None:
        """Return the state of a job; None if there is no such job."""
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await cursor.execute(LOOK, [UUID(work.job_id)])
            row = await cursor.fetchone()
        return None if row is None else Look(*row)

    async def begin(self, work: DocumentWork) -> Begun | None:
        """Count a start of the job; return what it needs, or None if it is no longer to be done."""
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await cursor.execute(BEGIN, _of(work))
            row = await cursor.fetchone()
        return None if row is None else Begun(*row)

    async def give_back(self, work: DocumentWork) -> None:
        """Take back the start of an attempt that is ended in order: the partition goes to another worker."""
        async with self._writes.transaction() as (connection, _):
            await connection.execute(GIVE_BACK, (UUID(work.job_id), work.generation))

    async def revive(self, work: DocumentWork) -> DocumentWork:
        """Let a failed job run again that an operator sent back; return what is to be worked on."""
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            counts = JobCounts()
            again = await retried(cursor, counts, UUID(work.job_id))
            await counts.write(cursor)
        return work if again is None else again

    async def attempt_failed(self, work: DocumentWork, error: JobError) -> None:
        """Count a failed attempt of a job that will be tried again."""
        async with self._writes.transaction() as (connection, _):
            await connection.execute(FAILED_ATTEMPT, _of(work) | {"error": error.text})

    async def end(self, work: DocumentWork, phase: Phase, *, error: JobError | None = None) -> EndedJob | None:
        """End a job; return None if it had ended."""
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            return await _end(cursor, work, phase, error=error)

    async def read_file(
        self,
        work: DocumentWork,
        text: str,
        text_sha256: bytes,
        *,
        parser: str,
        is_markdown: bool,
        metadata: dict[str, Any] | None,
    ) -> None:
        """Keep the text of a file in place of its bytes."""
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await cursor.execute(
                READ_FILE,
                {
                    "job": UUID(work.job_id),
                    "cost": len(text),
                    "text": text,
                    "text_sha256": text_sha256,
                    "parser": parser,
                    "is_markdown": is_markdown,
                    "metadata": None if metadata is None else msgspec.json.encode(metadata).decode(),
                },
            )
            counts = JobCounts()
            await _recost(cursor, counts, len(text))
            await counts.write(cursor)

    async def became_parts(self, work: DocumentWork, parts: list[dict[str, Any]], *, parser: str) -> EndedJob | None:
        """End the job of a file whose parts are documents of their own, and drop it; return None if it had ended."""
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            described = {"job": UUID(work.job_id), "parts": msgspec.json.encode(parts).decode(), "parser": parser}
            counts = JobCounts()
            await cursor.execute(BECAME_PARTS, described | {"cost": 0})  # the parts have it
            await _recost(cursor, counts, 0)
            ended = await end_jobs(cursor, counts, [UUID(work.job_id)], Phase.STORED)
            await counts.write(cursor)
            return next(iter(ended), None)

    async def chunked(self, work: DocumentWork, chunks: int) -> None:
        """Note that a job has its chunks."""
        async with self._writes.transaction() as (connection, _):
            await connection.execute(CHUNKED, _of(work) | {"chunks": chunks})

    async def embedded(self, work: DocumentWork) -> None:
        """Note that the embedded version is in the log."""
        async with self._writes.transaction() as (connection, _):
            await connection.execute(EMBEDDED, (UUID(work.job_id), work.generation))


async def note_progress(cursor: AsyncCursor[Any], work: DocumentWork, done: int) -> None:
    """Note how many chunks have vectors, within the caller's transaction."""
    await cursor.execute(PROGRESS, _of(work) | {"done": done})


async def _recost(cursor: AsyncCursor[Any], counts: JobCounts, cost: int) -> None:
    """Count a job with *cost* from now on; the cursor has what it was counted with."""
    if (row := await cursor.fetchone()) is not None:
        tenant, partition, lane, before = row
        counts.correct(tenant, partition, lane=Lane(lane), by=cost - before)


async def _end(
    cursor: AsyncCursor[Any], work: DocumentWork, phase: Phase, *, error: JobError | None = None
) -> EndedJob | None:
    counts = JobCounts()
    ended = await end_jobs(cursor, counts, [UUID(work.job_id)], phase, error=error)
    await counts.write(cursor)
    return next(iter(ended), None)


def _of(work: DocumentWork) -> dict[str, Any]:
    return {"job": UUID(work.job_id), "generation": work.generation}
