"""The types of the records of documents, and the codecs of the topics that carry them."""

from collections.abc import Mapping
from typing import Any

from schemas.documents.records import (
    BadChunk,
    ChangeDocumentJob,
    Command,
    DeleteCollection,
    DeleteDocument,
    DocumentChanged,
    DocumentEmbedded,
    DocumentWork,
    Embedding,
    PutDocument,
    ReembedCollection,
    Source,
    Span,
)
from schemas.documents.states import DocumentAction, Lane, Phase
from schemas.kafka.codec import Codec, RecordType


def _source(fields: Mapping[str, Any] | None) -> Source | None:
    return None if fields is None else Source(**fields)


def _embeddings(entries: Any) -> tuple[Embedding, ...]:
    return tuple(
        Embedding(
            **entry
            | {
                "chunks": tuple(Span(**span) for span in entry["chunks"]),
                "missing": tuple(BadChunk(**chunk) for chunk in entry["missing"]),
            }
        )
        for entry in entries
    )


PUT_DOCUMENT = RecordType(name="tidegate.documents.PutDocument", cls=PutDocument, converters={"source": _source})
DELETE_DOCUMENT = RecordType(name="tidegate.documents.DeleteDocument", cls=DeleteDocument)
DELETE_COLLECTION = RecordType(name="tidegate.documents.DeleteCollection", cls=DeleteCollection)
CHANGE_DOCUMENT_JOB = RecordType(
    name="tidegate.documents.ChangeDocumentJob", cls=ChangeDocumentJob, converters={"action": DocumentAction}
)
REEMBED_COLLECTION = RecordType(name="tidegate.documents.ReembedCollection", cls=ReembedCollection)
DOCUMENT_WORK = RecordType(
    name="tidegate.documents.DocumentWork", cls=DocumentWork, converters={"lane": Lane, "embedders": tuple}
)
DOCUMENT_EMBEDDED = RecordType(
    name="tidegate.documents.DocumentEmbedded", cls=DocumentEmbedded, converters={"embeddings": _embeddings}
)
DOCUMENT_CHANGED = RecordType(
    name="tidegate.documents.DocumentChanged", cls=DocumentChanged, converters={"phase": Phase}
)

COMMANDS = (PUT_DOCUMENT, DELETE_DOCUMENT, DELETE_COLLECTION, CHANGE_DOCUMENT_JOB, REEMBED_COLLECTION)

COMMAND_CODEC: Codec[Command] = Codec(COMMANDS)
WORK_CODEC: Codec[DocumentWork] = Codec((DOCUMENT_WORK,))
EMBEDDED_CODEC: Codec[DocumentEmbedded] = Codec((DOCUMENT_EMBEDDED,))
CHANGE_CODEC: Codec[DocumentChanged] = Codec((DOCUMENT_CHANGED,))
