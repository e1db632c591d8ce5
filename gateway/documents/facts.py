"""Fact readers for the record types of documents."""

from gateway.kafka.facts import FactReaders, RecordFacts
from schemas.documents.records import (
    ChangeDocumentJob,
    Command,
    DeleteCollection,
    DeleteDocument,
    DocumentChanged,
    DocumentEmbedded,
    DocumentWork,
    PutDocument,
    ReembedCollection,
    record_id,
)


def _of_command(command: Command) -> RecordFacts:
    return RecordFacts(command.tenant, record_id(command))


def _of_job(record: DocumentWork | DocumentEmbedded | DocumentChanged) -> RecordFacts:
    return RecordFacts(record.tenant, f"doc_{record.job_id}")


FACT_READERS: FactReaders = {
    **dict.fromkeys((PutDocument, DeleteDocument, DeleteCollection, ChangeDocumentJob, ReembedCollection), _of_command),
    **dict.fromkeys((DocumentWork, DocumentEmbedded, DocumentChanged), _of_job),
}
