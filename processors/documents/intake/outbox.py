"""The outbox of documents: rows that every group leaves beside its changes become records of document.events."""

from collections.abc import Sequence
from typing import Any

from processors.runtime.dead_letters import OutgoingRecord
from processors.runtime.sealing import sealed_record
from schemas.access.credentials import CurrentCredentials
from schemas.documents.codec import CHANGE_CODEC
from schemas.documents.records import DocumentChanged, key_of
from schemas.documents.states import Phase
from schemas.documents.topics import DOCUMENT_EVENTS
from schemas.ids import milliseconds_of

TAKE_CHANGES = """
    WITH taken AS (
        DELETE FROM document_changes
        WHERE seq = ANY(ARRAY(SELECT seq FROM document_changes ORDER BY seq LIMIT %(limit)s))
        RETURNING *
    )
    SELECT job_id::text, tenant_id, collection, document, version, revision, phase, chunks_done, chunks, error, at
    FROM taken ORDER BY seq
"""


def change_record(row: Sequence[Any], credentials: CurrentCredentials) -> OutgoingRecord:
    """Return the record of document.events for a row that TAKE_CHANGES returns."""
    job_id, tenant, collection, document, version, revision, phase, chunks_embedded, chunks, error, at = row
    changed = DocumentChanged(
        tenant=tenant,
        collection=collection,
        document=document,
        job_id=job_id,
        version=version,
        revision=revision,
        phase=Phase(phase),
        chunks_embedded=chunks_embedded,
        chunks=chunks,
        error=error,
        at_ms=milliseconds_of(at),
    )
    return sealed_record(
        DOCUMENT_EVENTS,
        record_id=f"dch_{job_id}_{version}",
        key=key_of(changed),
        tenant=tenant,
        value=CHANGE_CODEC.encode(changed),
        by=credentials,
    )
