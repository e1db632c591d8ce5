"""Deletions: they take effect at once, and leave a row that any late record of an older revision meets."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from psycopg import AsyncCursor

from processors.documents.chunk_tables import delete_chunks
from processors.documents.counts import JobCounts
from processors.documents.intake.puts import insert_job, lock_document, misplaced, precondition_fault
from processors.documents.moves import JobError, supersede_before
from processors.runtime.contract import Arrival
from processors.runtime.receiving import received_at
from schemas.documents.records import DeleteCollection, DeleteDocument
from schemas.documents.rules import PRIORITY_DEFAULT
from schemas.documents.states import Failure, JobKind, Phase, Stage, lane_of
from schemas.errors import Rejection

DOCUMENTS_AT_ONCE = 500

# Of a document that never was as well: a Put that came before may be on its way in a delay tier.
BURY = """
    INSERT INTO documents (tenant_id, collection, document, partition, latest_revision, deleted_revision)
    VALUES (%(tenant)s, %(collection)s, %(document)s, %(partition)s, %(revision)s, %(revision)s)
    ON CONFLICT (tenant_id, collection, document) DO UPDATE
    SET latest_revision = %(revision)s, deleted_revision = %(revision)s, live_revision = NULL, live_job = NULL,
        building_revision = NULL, build = NULL, text_sha256 = NULL, parser = NULL, chunker = NULL, characters = NULL,
        chunks = NULL, missing = NULL, metadata = NULL, stored_at = NULL, updated_at = clock_timestamp()
"""
DROP_LIVE_TEXT = """
    DELETE FROM document_texts WHERE job_id = (
        SELECT live_job FROM documents WHERE tenant_id = %s AND collection = %s AND document = %s
    )
"""
DOCUMENTS_OF_PARTITION = """
    SELECT document FROM documents
    WHERE tenant_id = %s AND collection = %s AND partition = %s AND latest_revision < %s
        AND deleted_revision IS DISTINCT FROM latest_revision
    ORDER BY document LIMIT %s
    FOR UPDATE
"""


async def delete(
    cursor: AsyncCursor[Any], counts: JobCounts, arrival: Arrival[DeleteDocument]
) -> JobError | Rejection | None:
    """Delete a document, within the caller's transaction; return why that failed, or None."""
    command, raw = arrival.record, arrival.raw
    place = (command.tenant, command.collection, command.document)
    found = await lock_document(cursor, *place)
    if (rejection := misplaced(found, raw.partition)) is not None:
        return rejection
    error = None
    if (fault := precondition_fault(found, command.expected_revision)) is not None:
        error = JobError(stage=Stage.INTAKE, reason=Failure.PRECONDITION, detail=fault)
    else:
        await _bury(cursor, counts, *place, partition=raw.partition, revision=raw.offset)
    phase = Phase.DELETED if error is None else Phase.FAILED
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
            "kind": JobKind.DELETE,
            "phase": phase,
            "priority": PRIORITY_DEFAULT,
            "lane": lane_of(PRIORITY_DEFAULT),
            "cost": 0,
            "max_retries": 0,
            "skips_bad": False,
            "embedders": [],
            "is_markdown": False,
            "source": None,
            "parser": None,
            "text_sha256": None,
            "metadata": None,
            "error": None if error is None else error.text,
            "parent": None,
            "by": command.submitted_by,
            "trace": None,
            "digest": None,
            "received": received_at(arrival),
            "is_ended": True,
        },
    )
    return error


async def delete_collection(
    cursor: AsyncCursor[Any], counts: JobCounts, arrival: Arrival[DeleteCollection], *, goes_on: Callable[[], None]
) -> int:
    """Delete the documents of a collection that this partition has; return how many."""
    command, raw, count = arrival.record, arrival.raw, 0
    wanted = (command.tenant, command.collection, raw.partition, raw.offset, DOCUMENTS_AT_ONCE)
    while True:
        await cursor.execute(DOCUMENTS_OF_PARTITION, wanted)
        documents = [row[0] for row in await cursor.fetchall()]
        for document in documents:
            goes_on()
            await _bury(
                cursor,
                counts,
                command.tenant,
                command.collection,
                document,
                partition=raw.partition,
                revision=raw.offset,
            )
        count += len(documents)
        if len(documents) < DOCUMENTS_AT_ONCE:
            return count


async def _bury(
    cursor: AsyncCursor[Any],
    counts: JobCounts,
    tenant: str,
    collection: str,
    document: str,
    *,
    partition: int,
    revision: int,
) -> None:
    await delete_chunks(cursor, tenant, collection, [document])
    await cursor.execute(DROP_LIVE_TEXT, (tenant, collection, document))
    await cursor.execute(
        BURY,
        {
            "tenant": tenant,
            "collection": collection,
            "document": document,
            "partition": partition,
            "revision": revision,
        },
    )
    await supersede_before(cursor, counts, tenant, collection, document, revision=revision)
