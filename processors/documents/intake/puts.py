"""Puts as rows: the job, the document's newest revision, and the text for whoever embeds it."""

from collections.abc import Mapping
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import msgspec
from psycopg import AsyncCursor

from processors.documents.counts import JobCounts
from processors.documents.intake.texts import GivenText
from processors.documents.moves import CHANGED, JobError
from processors.documents.versions import TEXT_PARSER
from processors.runtime.contract import Arrival
from processors.runtime.receiving import received_at
from schemas.documents.records import DocumentWork, PutDocument
from schemas.documents.rules import NO_DOCUMENT
from schemas.documents.states import Failure, JobKind, Phase, Stage, lane_of
from schemas.errors import Reason, Rejection
from schemas.kafka import headers

EMBEDDERS = """
    SELECT array_remove(ARRAY[embedder, building], NULL) FROM document_collections
    WHERE tenant_id = %s AND collection = %s
"""
LOCK_DOCUMENT = """
    SELECT partition, latest_revision, live_revision, deleted_revision, text_sha256, parser, chunker
    FROM documents WHERE tenant_id = %s AND collection = %s AND document = %s FOR UPDATE
"""
PUT_DOCUMENT = """
    INSERT INTO documents (tenant_id, collection, document, partition, latest_revision) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (tenant_id, collection, document) DO UPDATE
    SET latest_revision = greatest(documents.latest_revision, excluded.latest_revision),
        updated_at = clock_timestamp()
"""
# The content is live already: what it is called and filtered by may be new, and so is its revision.
KEEP_DOCUMENT = """
    UPDATE documents SET latest_revision = %(revision)s, live_revision = %(revision)s, metadata = %(metadata)s::jsonb,
        building_revision = CASE WHEN building_revision = live_revision THEN %(revision)s END,
        updated_at = clock_timestamp()
    WHERE tenant_id = %(tenant)s AND collection = %(collection)s AND document = %(document)s
"""
INSERT_JOB: LiteralString = f"""
    WITH job AS (
        INSERT INTO document_jobs (job_id, tenant_id, collection, document, partition, revision, kind, phase, priority,
            lane, cost, max_retries, skips_bad, embedders, is_markdown, source, parser, text_sha256, metadata, error,
            parent_job, submitted_by, traceparent, content_sha256, submitted_at, ended_at)
        VALUES (%(job)s, %(tenant)s, %(collection)s, %(document)s, %(partition)s, %(revision)s, %(kind)s, %(phase)s,
            %(priority)s, %(lane)s, %(cost)s, %(max_retries)s, %(skips_bad)s, %(embedders)s, %(is_markdown)s,
            %(source)s::jsonb, %(parser)s, %(text_sha256)s, %(metadata)s::jsonb, %(error)s::jsonb, %(parent)s,
            %(by)s, %(trace)s, %(digest)s, %(received)s, CASE WHEN %(is_ended)s THEN clock_timestamp() END)
        RETURNING *
    )
    {CHANGED} FROM job
"""  # noqa: S608  the parts are literals
INSERT_TEXT = "INSERT INTO document_texts (job_id, text, source) VALUES (%s, %s, %s)"


class LockedDocument(NamedTuple):
    """The row of a document, locked."""

    partition: int
    latest_revision: int
    live_revision: int | None
    deleted_revision: int | None
    text_sha256: bytes | None
    parser: str | None
    chunker: str | None

    def is_deleted(self) -> bool:
        """Return True if the newest command deleted it."""
        return self.deleted_revision == self.latest_revision

    def has(self, text_sha256: bytes, *, parser: str, chunker: str) -> bool:
        """Return True if its live version is of this text, and no newer one is on its way."""
        is_live = self.live_revision is not None and self.live_revision == self.latest_revision
        return is_live and (self.text_sha256, self.parser, self.chunker) == (text_sha256, parser, chunker)


class Put(NamedTuple):
    """The outcome of a Put: work for the embedders, or why its job failed; neither: its content is live already."""

    work: DocumentWork | None = None
    error: JobError | None = None
    detail: str | None = None


async def lock_document(cursor: AsyncCursor[Any], tenant: str, collection: str, document: str) -> LockedDocument | None:
    """Return the row of a document, locked until the transaction ends; None if there never was one."""
    await cursor.execute(LOCK_DOCUMENT, (tenant, collection, document))
    row = await cursor.fetchone()
    return None if row is None else LockedDocument(*row)


def misplaced(found: LockedDocument | None, partition: int) -> Rejection | None:
    """Return why a command cannot be compared with the document's other revisions; None if it can."""
    if found is None or found.partition == partition:
        return None
    detail = f"the document's records are in partition {found.partition}, whose offsets are its revisions"
    return Rejection(reason=Reason.WRONG_PARTITION, detail=detail)


def precondition_fault(found: LockedDocument | None, expected: int | None) -> str | None:
    """Return why the revision that a command expects is not the newest one; None if it is, or none is expected."""
    there = None if found is None or found.is_deleted() else found.latest_revision
    if expected is None or (expected == NO_DOCUMENT and there is None) or expected == there:
        return None
    return "there is no document" if there is None else f"its newest revision is {there}"


async def put(
    cursor: AsyncCursor[Any],
    counts: JobCounts,
    arrival: Arrival[PutDocument],
    given: GivenText,
    *,
    chunker: str,
) -> Put | Rejection:
    """Store a Put that is new, within the caller's transaction, which has locked its collection."""
    command, raw = arrival.record, arrival.raw
    place = (command.tenant, command.collection, command.document)
    found = await lock_document(cursor, *place)
    if (rejection := misplaced(found, raw.partition)) is not None:
        return rejection
    error = given.error
    if (fault := precondition_fault(found, command.expected_revision)) is not None:
        error = JobError(stage=Stage.INTAKE, reason=Failure.PRECONDITION, detail=fault)
    if error is not None:
        await _insert_put(cursor, counts, arrival, given, phase=Phase.FAILED, error=error)
        return Put(error=error, detail=error.detail)
    if given.sha256 is not None and found is not None and found.has(given.sha256, parser=TEXT_PARSER, chunker=chunker):
        await cursor.execute(
            KEEP_DOCUMENT,
            {
                "tenant": command.tenant,
                "collection": command.collection,
                "document": command.document,
                "revision": raw.offset,
                "metadata": command.metadata,
            },
        )
        await _insert_put(cursor, counts, arrival, given, phase=Phase.UNCHANGED)
        return Put(detail="the live version has the same content")
    embedders = await _embedders(cursor, command)
    await cursor.execute(PUT_DOCUMENT, (*place, raw.partition, raw.offset))
    await _insert_put(cursor, counts, arrival, given, phase=Phase.SUBMITTED, embedders=embedders)
    await cursor.execute(INSERT_TEXT, (UUID(command.job_id), given.text, given.source))
    work = DocumentWork(
        tenant=command.tenant,
        collection=command.collection,
        document=command.document,
        job_id=command.job_id,
        revision=raw.offset,
        generation=1,
        lane=lane_of(command.priority),
        cost=given.cost,
        embedders=embedders,
    )
    return Put(work)


async def _embedders(cursor: AsyncCursor[Any], command: PutDocument) -> list[str]:
    """Return the active embedder of a collection, and the one that is being built, if there is one."""
    await cursor.execute(EMBEDDERS, (command.tenant, command.collection))
    row = await cursor.fetchone()
    assert row is not None  # the slice has locked it
    embedders: list[str] = row[0]
    return embedders


async def insert_job(cursor: AsyncCursor[Any], counts: JobCounts, job: Mapping[str, Any]) -> None:
    """Insert a job by the parameters of `INSERT_JOB`, and count it and its end, if it has ended."""
    await cursor.execute(INSERT_JOB, job)
    counts.add(job["tenant"], job["partition"], Phase.SUBMITTED, lane=job["lane"], cost=job["cost"])
    if job["is_ended"]:
        counts.add(job["tenant"], job["partition"], job["phase"], lane=job["lane"], cost=job["cost"])


async def _insert_put(
    cursor: AsyncCursor[Any],
    counts: JobCounts,
    arrival: Arrival[PutDocument],
    given: GivenText,
    *,
    phase: Phase,
    embedders: list[str] | None = None,
    error: JobError | None = None,
) -> None:
    command, raw = arrival.record, arrival.raw
    source = command.source
    described = None if source is None else {"content_type": source.content_type, "filename": source.filename}
    trace = arrival.headers.get(headers.TRACEPARENT) if arrival.is_sealed else None
    await insert_job(
        cursor,
        counts,
        {
            "job": UUID(command.job_id),
            "tenant": command.tenant,
            "collection": command.collection,
            "document": command.document,
            "partition": raw.partition,
            "revision": raw.offset,
            "kind": JobKind.PUT,
            "phase": phase,
            "priority": command.priority,
            "lane": lane_of(command.priority),
            "cost": given.cost,
            "max_retries": command.max_retries,
            "skips_bad": command.skips_bad_chunks,
            "embedders": embedders or [],
            "is_markdown": command.is_markdown,
            "source": None if described is None else msgspec.json.encode(described).decode(),
            "parser": TEXT_PARSER if source is None else None,
            "text_sha256": given.sha256,
            "metadata": command.metadata,
            "error": None if error is None else error.text,
            "parent": None if command.parent_job is None else UUID(command.parent_job),
            "by": command.submitted_by,
            "trace": None if trace is None else trace.decode("ascii", "replace"),
            "digest": command.content_sha256,
            "received": received_at(arrival),
            "is_ended": phase is not Phase.SUBMITTED,
        },
    )
