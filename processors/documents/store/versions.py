"""
Versions made live, one transaction a document.

The document's row is locked and its revisions compared: whatever order records come in, the newest version that could
be stored and was not deleted is the one that is live, whole, and no chunk of another is in the tables.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from psycopg import AsyncCursor

from processors.documents.chunk_tables import chunk_tables
from processors.documents.counts import JobCounts
from processors.documents.moves import CHANGED, EndedJob, JobError, end_jobs, is_newest, supersede_before, work_of
from processors.documents.store.chunks import Document, replace_chunks
from processors.documents.store.handing_on import HandingOn
from processors.documents.store.vectors import HALF_BYTES
from processors.postgres.writes import PostgresWrites
from processors.runtime.failpoints import Failpoint, reach
from schemas.documents.records import DocumentEmbedded, DocumentWork, Embedding
from schemas.documents.states import Failure, JobKind, Phase, Stage
from schemas.errors import Poison

COLLECTION = """
    SELECT embedder, building, builds, config::oid::bigint FROM document_collections
    WHERE tenant_id = %s AND collection = %s FOR SHARE
"""
LOCK_DOCUMENT = """
    SELECT live_revision, live_job, deleted_revision FROM documents
    WHERE tenant_id = %s AND collection = %s AND document = %s FOR UPDATE
"""
JOB = """
    SELECT kind, revision, generation, ended_at IS NOT NULL, begun_at IS NOT NULL, parser, metadata
    FROM document_jobs WHERE job_id = %s FOR UPDATE
"""
UNBEGUN = """
    SELECT job_id::text, tenant_id, collection, document, revision, generation, lane, cost, embedders
    FROM document_jobs WHERE job_id = %s
"""
TEXT = "SELECT text FROM document_texts WHERE job_id = %s"
GO_LIVE = """
    UPDATE documents SET live_revision = %(revision)s, live_job = %(job)s, text_sha256 = %(text_sha256)s,
        parser = %(parser)s, chunker = %(chunker)s, characters = %(characters)s, chunks = %(chunks)s,
        missing = %(missing)s::jsonb, metadata = %(metadata)s::jsonb, building_revision = %(building_revision)s,
        build = %(build)s, stored_at = clock_timestamp(), updated_at = clock_timestamp()
    WHERE tenant_id = %(tenant)s AND collection = %(collection)s AND document = %(document)s
"""
DROP_TEXT = "DELETE FROM document_texts WHERE job_id = %s"
BUILT = """
    UPDATE documents SET building_revision = live_revision, build = %s
    WHERE tenant_id = %s AND collection = %s AND document = %s
"""
COUNT_CHUNKS = "UPDATE document_jobs SET chunks = %(chunks)s, chunks_done = %(chunks)s WHERE job_id = %(job)s"
# The collection's embedder changed while the document was on its way.
EMBED_AGAIN = f"""
    WITH job AS (
        UPDATE document_jobs
        SET phase = 'submitted', generation = generation + 1, version = version + 1, starts = 0,
            embedders = %(embedders)s, begun_at = NULL, chunked_at = NULL, embedded_at = NULL
        WHERE job_id = %(job)s
        RETURNING *
    ),
    changed AS ({CHANGED} FROM job)
    SELECT job_id::text, tenant_id, collection, document, revision, generation, lane, cost, embedders FROM job
"""  # noqa: S608  the parts are literals


class StoredVersion(NamedTuple):
    """The outcome of one record: the end of its job, or the work that it brings once more; neither: it came before."""

    phase: Phase | None = None
    end: EndedJob | None = None
    error: JobError | None = None
    again: DocumentWork | None = None
    ended: Mapping[Phase, int] = MappingProxyType({})  # how many jobs came to each end: older ones of the document too


class _Collection(NamedTuple):
    """The embedders of a collection, its row locked against a change of them."""

    active: str
    building: str | None
    build: int  # the number of the newest
    config_oid: int


class _LiveDocument(NamedTuple):
    """The row of a document, locked."""

    live_revision: int | None
    live_job: UUID | None
    deleted_revision: int | None


class _Job(NamedTuple):
    """The row of a job, locked."""

    kind: str
    revision: int  # not the record's: an operator who accepts another log gives the old one's revisions other numbers
    generation: int
    has_ended: bool
    is_begun: bool
    parser: str | None
    metadata: dict[str, Any] | None


class _Locked(NamedTuple):
    """The rows that decide about a record."""

    collection: _Collection
    document: _LiveDocument
    job: _Job


class VersionStore:
    """The tables of documents, as embedded versions change them."""

    def __init__(self, writes: PostgresWrites, *, handing_on: HandingOn | None = None) -> None:
        """Write by the connections of *writes*."""
        self._writes = writes
        self._handing_on = handing_on

    async def store(self, record: DocumentEmbedded) -> StoredVersion:
        """
        Make a version live in one transaction, or find out that it is not wanted any more.

        A worker of one's own is handed it before; one that it does not take has failed.

        Raises:
            Transient: see `Handler`.
        """
        error = None if self._handing_on is None else await self._handing_on.hand(record)
        try:
            return await self._stored(record, error)
        except Poison as poison:
            # Its job must not stay in flight: it would count as waiting for ever, and hold up those behind it.
            return await self._stored(
                record, JobError(stage=Stage.STORE, reason=Failure.NOT_STORABLE, detail=poison.detail)
            )

    async def _stored(self, record: DocumentEmbedded, error: JobError | None) -> StoredVersion:
        reach(Failpoint.BEFORE_TX)
        async with self._writes.transaction() as (connection, goes_on), connection.cursor() as cursor:
            counts = JobCounts()
            stored = await self._store(cursor, counts, record, error)
            await counts.write(cursor)
            goes_on()
            reach(Failpoint.BEFORE_COMMIT)
        return stored._replace(ended=counts.ended)

    async def _store(
        self, cursor: AsyncCursor[Any], counts: JobCounts, record: DocumentEmbedded, error: JobError | None
    ) -> StoredVersion:
        job_id, locked = UUID(record.job_id), await _locked(cursor, record)
        if locked is None:
            return StoredVersion()
        job = locked.job
        if job.has_ended or job.generation != record.generation:
            return await _came_before(cursor, job_id, job, record)
        if error is not None:
            return await _ended(cursor, counts, job_id, Phase.FAILED, error=error)
        return await self._decide(cursor, counts, record, locked)

    async def _decide(
        self, cursor: AsyncCursor[Any], counts: JobCounts, record: DocumentEmbedded, locked: _Locked
    ) -> StoredVersion:
        job_id = UUID(record.job_id)
        collection, document, job = locked
        if _is_superseded(job, document):
            return await _ended(cursor, counts, job_id, Phase.SUPERSEDED)
        by_embedder = {each.embedder: each for each in record.embeddings}
        if job.kind == JobKind.REEMBED:
            wanted, text_job = [collection.building], document.live_job
            if collection.building not in by_embedder:  # of a build that is over, or was given up
                return await _ended(cursor, counts, job_id, Phase.SUPERSEDED)
        else:
            wanted, text_job = [collection.active], job_id
            if collection.active not in by_embedder:
                return await self._again(cursor, job_id, collection)
            wanted += [collection.building] if collection.building in by_embedder else []
        embeddings = {each: by_embedder[each] for each in wanted if each is not None}
        return await self._make_live(cursor, counts, record, locked, embeddings, text=await _text(cursor, text_job))

    async def _make_live(
        self,
        cursor: AsyncCursor[Any],
        counts: JobCounts,
        record: DocumentEmbedded,
        locked: _Locked,
        embeddings: Mapping[str, Embedding],
        *,
        text: str | None,
    ) -> StoredVersion:
        job_id = UUID(record.job_id)
        if (error := _fault(text, record, embeddings.values())) is not None or text is None:
            return await _ended(cursor, counts, job_id, Phase.FAILED, error=error)
        tables = await chunk_tables(cursor)
        named = Document(record.tenant, record.collection, record.document, locked.collection.config_oid)
        for embedder, embedding in embeddings.items():
            await replace_chunks(cursor, tables[embedder], named, text, embedding)
        if locked.job.kind == JobKind.REEMBED:
            await cursor.execute(BUILT, (locked.collection.build, *named[:3]))
        else:
            await _go_live(cursor, counts, record, locked, embeddings, text=text)
        chunks = len(next(iter(embeddings.values())).chunks)
        await cursor.execute(COUNT_CHUNKS, {"job": job_id, "chunks": chunks})
        return await _ended(cursor, counts, job_id, Phase.STORED)

    async def _again(self, cursor: AsyncCursor[Any], job_id: UUID, collection: _Collection) -> StoredVersion:
        embedders = [each for each in (collection.active, collection.building) if each is not None]
        await cursor.execute(EMBED_AGAIN, {"job": job_id, "embedders": embedders})
        return StoredVersion(again=work_of(await _row(cursor)))


async def _locked(cursor: AsyncCursor[Any], record: DocumentEmbedded) -> _Locked | None:
    """Lock the collection, the document and the job of a record; return None if the tables were emptied since."""
    place = (record.tenant, record.collection, record.document)
    await cursor.execute(COLLECTION, place[:2])
    collection = await cursor.fetchone()
    await cursor.execute(LOCK_DOCUMENT, place)
    document = await cursor.fetchone()
    await cursor.execute(JOB, (UUID(record.job_id),))
    job = await cursor.fetchone()
    if collection is None or document is None or job is None:
        return None
    return _Locked(_Collection(*collection), _LiveDocument(*document), _Job(*job))


async def _came_before(cursor: AsyncCursor[Any], job_id: UUID, job: _Job, record: DocumentEmbedded) -> StoredVersion:
    """Return the work that this record brought when it came before, unless somebody has begun it since."""
    if job.has_ended or job.is_begun or job.generation != record.generation + 1:
        return StoredVersion()
    await cursor.execute(UNBEGUN, (job_id,))
    return StoredVersion(again=work_of(await _row(cursor)))


async def _text(cursor: AsyncCursor[Any], job_id: UUID | None) -> str | None:
    await cursor.execute(TEXT, (job_id,))
    row = await cursor.fetchone()
    return None if row is None else row[0]


def _is_superseded(job: _Job, document: _LiveDocument) -> bool:
    if job.kind == JobKind.REEMBED:
        return document.live_revision != job.revision
    return not is_newest(job.revision, document.live_revision, document.deleted_revision)


def _fault(text: str | None, record: DocumentEmbedded, embeddings: Any) -> JobError | None:
    """Return why a version cannot be stored; None if it can."""
    if text is None or hashlib.sha256(text.encode()).digest() != record.text_sha256:
        detail = "its text is no longer kept, or is another one"
        return JobError(stage=Stage.STORE, reason=Failure.TEXT_MISSING, detail=detail)
    for each in embeddings:
        if len(each.vectors) != len(each.chunks) * each.dimensions * HALF_BYTES:
            detail = f"{len(each.vectors)} bytes are not {len(each.chunks)} vectors of {each.dimensions} numbers"
            return JobError(stage=Stage.STORE, reason=Failure.NOT_STORABLE, detail=detail)
    return None


async def _go_live(
    cursor: AsyncCursor[Any],
    counts: JobCounts,
    record: DocumentEmbedded,
    locked: _Locked,
    embeddings: Mapping[str, Embedding],
    *,
    text: str,
) -> None:
    collection, document, job = locked
    active = embeddings[collection.active]
    await cursor.execute(
        GO_LIVE,
        {
            "tenant": record.tenant,
            "collection": record.collection,
            "document": record.document,
            "revision": job.revision,
            "job": UUID(record.job_id),
            "text_sha256": record.text_sha256,
            "parser": job.parser,
            "chunker": active.chunker,
            "characters": len(text),
            "chunks": len(active.chunks),
            "missing": msgspec.json.encode(active.missing).decode() if active.missing else None,
            "metadata": None if job.metadata is None else msgspec.json.encode(job.metadata).decode(),
            "building_revision": job.revision if collection.building in embeddings else None,
            "build": collection.build,
        },
    )
    if document.live_job is not None:
        await cursor.execute(DROP_TEXT, (document.live_job,))
    await supersede_before(cursor, counts, record.tenant, record.collection, record.document, revision=job.revision)


async def _ended(
    cursor: AsyncCursor[Any], counts: JobCounts, job_id: UUID, phase: Phase, *, error: JobError | None = None
) -> StoredVersion:
    ended = await end_jobs(cursor, counts, [job_id], phase, error=error)
    return StoredVersion(phase, ended[0] if ended else None, error)


async def _row(cursor: AsyncCursor[Any]) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = await cursor.fetchone()
    assert row is not None  # the caller has locked it
    return row
