"""The records of documents, one frozen type per Avro schema; field meanings and units stand in `avsc/`."""

import hashlib
from collections.abc import Mapping, Sequence
from uuid import UUID, uuid5

import msgspec

from schemas.canonical import canonical
from schemas.documents.states import DocumentAction, Lane, Phase

# Derived ids are UUIDv5 in these: the same request, or the same part of a file, is the same job.
IDEMPOTENCY_NAMESPACE = UUID("6b1f6f5e-2d0d-5a55-9f7c-0f3c5a1f7b03")
PART_NAMESPACE = UUID("6b1f6f5e-2d0d-5a55-9f7c-0f3c5a1f7b04")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A file that the text is read out of: its bytes, or where they are kept."""

    content_type: str
    filename: str | None = None
    content: bytes | None = None
    content_ref: str | None = None


class PutDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A command: index a text, or the text of a file, as the newest revision of a document."""

    tenant: str
    collection: str
    document: str
    job_id: str
    text: str | None = None
    text_ref: str | None = None
    source: Source | None = None
    is_markdown: bool = False
    priority: int
    max_retries: int
    skips_bad_chunks: bool = False
    metadata: str | None = None
    expected_revision: int | None = None
    parent_job: str | None = None
    submitted_by: str | None = None
    content_sha256: bytes


class DeleteDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A command: delete a document."""

    tenant: str
    collection: str
    document: str
    job_id: str
    expected_revision: int | None = None
    submitted_by: str | None = None


class DeleteCollection(msgspec.Struct, frozen=True, kw_only=True):
    """A command: delete the documents of a collection that are in this record's partition."""

    tenant: str
    collection: str
    share: int
    command_id: str
    by: str


class ChangeDocumentJob(msgspec.Struct, frozen=True, kw_only=True):
    """A command: cancel the job of a document, or run it again."""

    tenant: str
    collection: str
    document: str
    job_id: str
    command_id: str
    action: DocumentAction
    by: str


class ReembedCollection(msgspec.Struct, frozen=True, kw_only=True):
    """A command: embed the documents of a collection with another embedder."""

    tenant: str
    collection: str
    command_id: str
    embedder: str
    skips_failed: bool = False
    by: str


class DocumentWork(msgspec.Struct, frozen=True, kw_only=True):
    """A revision of a document that is to be chunked and embedded."""

    tenant: str
    collection: str
    document: str
    job_id: str
    revision: int
    generation: int
    lane: Lane
    cost: int
    embedders: Sequence[str]


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk: a span of the text in code points, and the headings above it."""

    start: int
    end: int
    heading: str | None = None


class BadChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk that could not be embedded."""

    chunk: int
    start: int
    end: int
    reason: str


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """The chunks of a text and their vectors, by one embedder."""

    embedder: str
    chunker: str
    dimensions: int
    chunks: Sequence[Span]
    vectors: bytes
    missing: Sequence[BadChunk] = ()


class DocumentEmbedded(msgspec.Struct, frozen=True, kw_only=True):
    """A revision of a document that is ready to be stored."""

    tenant: str
    collection: str
    document: str
    job_id: str
    revision: int
    generation: int
    text_sha256: bytes
    embeddings: Sequence[Embedding]


class DocumentChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a document's job after a change; of two, the one of the higher version is newer."""

    tenant: str
    collection: str
    document: str
    job_id: str
    version: int
    revision: int
    phase: Phase
    chunks_embedded: int | None = None
    chunks: int | None = None
    error: str | None = None
    at_ms: int


Command = PutDocument | DeleteDocument | DeleteCollection | ChangeDocumentJob | ReembedCollection
OfDocument = PutDocument | DeleteDocument | ChangeDocumentJob | DocumentWork | DocumentEmbedded | DocumentChanged


def document_key(tenant: str, collection: str, document: str) -> bytes:
    """Return the key of every record of a document: they keep their order."""
    return f"{tenant}/{collection}/{document}".encode()


def share_key(tenant: str, collection: str, share: int) -> bytes:
    """Return the key of one of the records that the deletion of a collection is written as, one in each partition."""
    return f"{tenant}/{collection}//{share}".encode()


def key_of(record: Command | OfDocument) -> bytes:
    """Return the key of a record."""
    match record:
        case DeleteCollection():
            return share_key(record.tenant, record.collection, record.share)
        case ReembedCollection():
            return f"{record.tenant}/{record.collection}".encode()
        case _:
            return document_key(record.tenant, record.collection, record.document)


def record_id(command: Command) -> str:
    """Return the stable id of a command's record: the same over retries and duplicates in the log."""
    match command:
        case PutDocument() | DeleteDocument():
            return f"doc_{command.job_id}"
        case ChangeDocumentJob() | ReembedCollection():
            return f"dcm_{command.command_id}"
        case DeleteCollection():
            return f"dcm_{command.command_id}_{command.share}"


def idempotent_job_id(tenant: str, key: str) -> str:
    """Return the id of the job that a tenant submits under an Idempotency-Key."""
    return str(uuid5(IDEMPOTENCY_NAMESPACE, f"{len(tenant)}:{tenant}{key}"))


def part_job_id(job_id: str, part: int) -> str:
    """Return the id of the job of a part of the file that *job_id* brought."""
    return str(uuid5(PART_NAMESPACE, f"{job_id}/{part}"))


def content_sha256(content: Mapping[str, object]) -> bytes:
    """Return the digest of what was asked, None left out: a repeated request has the same."""
    return hashlib.sha256(canonical({name: value for name, value in content.items() if value is not None})).digest()
