"""
A worker of one's own in the store stage: it is handed each version that is about to go live, to keep it elsewhere.

It comes before the version's own transaction, and may come again for one version: it is exactly once only if it is
idempotent by document and revision.
"""

import struct
from collections.abc import Sequence
from uuid import UUID

from processors.documents.moves import JobError
from processors.documents.store.vectors import HALF_BYTES
from processors.postgres.writes import PostgresWrites
from schemas.documents.records import DocumentEmbedded, Embedding
from schemas.documents.states import Failure, Stage
from schemas.documents.workers import WorkerFailed, WorkerThread

# What is not wanted any more is not handed on; the version's own transaction decides for good.
WANTED = """
    SELECT texts.text, document_jobs.metadata
    FROM document_jobs
    JOIN documents USING (tenant_id, collection, document)
    JOIN document_texts AS texts ON texts.job_id = document_jobs.job_id
    WHERE document_jobs.job_id = %s AND generation = %s AND ended_at IS NULL AND kind = 'put'
        AND (live_revision IS NULL OR document_jobs.revision > live_revision)
        AND (deleted_revision IS NULL OR document_jobs.revision > deleted_revision)
"""


class HandingOn:
    """The worker, and what it is handed."""

    def __init__(self, writes: PostgresWrites, worker: WorkerThread) -> None:
        """Read texts by the connections of *writes*."""
        self._writes = writes
        self._worker = worker

    async def hand(self, record: DocumentEmbedded) -> JobError | None:
        """Hand a version to the worker; return why it did not take it, or None. Raises Transient: Postgres is away."""
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await cursor.execute(WANTED, (UUID(record.job_id), record.generation))
            row = await cursor.fetchone()
        if row is None:
            return None
        text, metadata = row
        embedding = record.embeddings[0]
        item = {
            "id": record.job_id,
            "book_slug": record.collection,
            "chapter_index": record.document,
            "revision": record.revision,
            "text": text,
            "metadata": metadata,
            "chunks": [text[span.start : span.end] for span in embedding.chunks],
            "embeddings": numbers_of(embedding),
        }
        try:
            await self._worker.call(item)
        except WorkerFailed as error:
            return JobError(stage=Stage.STORE, reason=Failure.WORKER_FAILED, detail=str(error))
        return None


def numbers_of(embedding: Embedding) -> Sequence[Sequence[float]]:
    """Return the vectors of an embedding as numbers."""
    size = embedding.dimensions * HALF_BYTES
    form = f"<{embedding.dimensions}e"
    return [
        struct.unpack(form, embedding.vectors[start : start + size]) for start in range(0, len(embedding.vectors), size)
    ]
