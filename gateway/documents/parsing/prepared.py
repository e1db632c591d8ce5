"""Preparation of documents: bounds, identity, the object of a long text, record."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from gateway.documents.command_records import command_record
from gateway.documents.objects import read_reference
from gateway.documents.parsing.submission import DocumentSubmission, read_submission
from gateway.errors import Forbidden
from gateway.http.child.refusals import Refusal
from gateway.http.documents import read_object, renamed
from gateway.kafka.records import OutgoingRecord, Stamp
from gateway.objects.uploads import Copy, Upload
from schemas.access.credentials import Principal
from schemas.documents.records import PutDocument, Source, idempotent_job_id
from schemas.documents.rules import (
    INLINE_BYTES_MAX,
    PRIORITY_DEFAULT,
    RETRIES_DEFAULT,
    file_cost,
    metadata_fault,
    put_faults,
    text_fault,
)
from schemas.documents.states import Lane, lane_of
from schemas.documents.validity import content_of
from schemas.errors import Fault, Invalid
from schemas.ids import uuid7
from schemas.objects.references import PayloadRef, to_json
from schemas.strictjson import FAULTS_MAX, NotJson

_NAMES = {"collection": "book_slug", "document": "chapter_index"}
_NO_DIGEST = b"\0" * 32  # until the content is known
_BOM = "\ufeff"


class DocumentOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """The origin of documents: the sender, the request, and what its path and headers say."""

    principal: Principal
    stamp: Stamp
    named: tuple[str, str] | None = None  # the collection and the document that the path names
    expected_revision: int | None = None
    idempotency_key: str | None = None


class PreparedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A valid document, its record, and what is to be kept in object storage before."""

    job_id: str
    is_derived: bool  # its id comes from an Idempotency-Key: the job may be there already
    collection: str
    document: str
    lane: Lane
    cost: int  # as intake counts it: characters, or of a file an estimate
    expected_revision: int | None
    content_sha256: bytes
    received_at: datetime
    record: OutgoingRecord
    reference: PayloadRef | None = None  # to its text, where that is too large for the log
    upload: Upload | None = None
    copy: Copy | None = None  # in place of an upload, of a text that is kept already


class DocumentVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One document of a request: valid, or refused."""

    document: PreparedDocument | None = None
    refusal: Refusal | None = None


class PreparedDocuments(msgspec.Struct, frozen=True, kw_only=True):
    """The documents of a request, in the order in which they were sent."""

    documents: Sequence[DocumentVerdict]


def prepare(body: bytes, origin: DocumentOrigin) -> PreparedDocument:
    """
    Return the document in *body* and its record.

    Raises:
        NotJson: it does not parse.
        Invalid: it breaks a rule; every fault is listed.
    """
    found = read_object(body, "a document")
    submission = read_submission(found.members, named=origin.named)
    metadata = found.members.get("metadata")
    text = found.text("metadata") if isinstance(metadata, dict) else None
    return _prepared(submission, origin, metadata=metadata, metadata_text=text)


def prepare_text(body: bytes, origin: DocumentOrigin, *, is_markdown: bool) -> PreparedDocument:
    """
    Return the document whose text is the *body*.

    Raises:
        Invalid: it is not UTF-8, or breaks a rule.
    """
    try:
        text = body.decode().removeprefix(_BOM)
    except UnicodeDecodeError as error:
        raise Invalid([Fault(pointer="", detail=f"not UTF-8 at byte {error.start}")]) from None
    assert origin.named is not None
    collection, document = origin.named
    fields = {
        "collection": collection,
        "document": document,
        "is_markdown": is_markdown,
        "skips_bad_chunks": False,
        "priority": PRIORITY_DEFAULT,
        "max_retries": RETRIES_DEFAULT,
    }
    submission = DocumentSubmission(fields=fields, text=text, reference=None)
    return _prepared(submission, origin, metadata=None, metadata_text=None)


def prepare_all(bodies: Iterable[bytes], origin: DocumentOrigin) -> PreparedDocuments:
    """Return the documents in *bodies*, each valid or refused by itself."""
    return PreparedDocuments(documents=[_verdict(body, origin) for body in bodies])


def prepare_file(
    content: bytes,
    origin: DocumentOrigin,
    *,
    fields: Mapping[str, object],
    content_type: str,
    filename: str | None,
    metadata: Mapping[str, Any] | None,
    metadata_text: str | None,
) -> PreparedDocument:
    """
    Return the document whose text is to be read out of a file. Hashes the file: call it in a thread.

    Raises:
        Invalid: one of *fields*, named as the record has them, breaks a rule.
    """
    asked = _checked(fields, origin, faults=[], metadata_text=metadata_text)
    source = Source(content_type=content_type, filename=filename)
    upload: Upload | None = None
    if len(content) <= INLINE_BYTES_MAX:
        source = msgspec.structs.replace(source, content=content)
    else:
        upload, reference = _kept(content, origin, asked["collection"])
        source = msgspec.structs.replace(source, content_ref=to_json(reference))
    cost = file_cost(len(content))
    return _with_record(asked | {"source": source}, origin, metadata=metadata, upload=upload, cost=cost)


def _verdict(body: bytes, origin: DocumentOrigin) -> DocumentVerdict:
    try:
        return DocumentVerdict(document=prepare(body, origin))
    except (Forbidden, Invalid, NotJson) as error:
        return DocumentVerdict(refusal=Refusal.of(error))


def _prepared(
    submission: DocumentSubmission, origin: DocumentOrigin, *, metadata: Any, metadata_text: str | None
) -> PreparedDocument:
    if submission.reference is not None:
        return _referring(submission, origin, metadata=metadata, metadata_text=metadata_text)
    text, faults = submission.text, list(submission.faults)
    fault = text_fault(text) if isinstance(text, str) else "a text"
    if fault:
        faults.append(Fault(pointer="/text", detail=fault))
    asked = _checked(submission.fields, origin, faults=faults, metadata_text=metadata_text)
    assert isinstance(text, str)
    encoded = text.encode()
    if len(encoded) <= INLINE_BYTES_MAX:
        return _with_record(asked | {"text": text}, origin, metadata=metadata, upload=None, cost=len(text))
    upload, reference = _kept(encoded, origin, asked["collection"])
    asked |= {"text_ref": to_json(reference)}
    return _with_record(asked, origin, metadata=metadata, upload=upload, reference=reference, cost=len(text))


def _referring(
    submission: DocumentSubmission, origin: DocumentOrigin, *, metadata: Any, metadata_text: str | None
) -> PreparedDocument:
    """Return a document whose text is kept already: its record is the same as if the text had been sent."""
    faults = list(submission.faults)
    source = read_reference(submission.reference, origin.principal)
    if isinstance(source, Fault):
        faults.append(source)
    if submission.text is not None:
        faults.append(Fault(pointer="/object", detail="in place of a text: send one of the two"))
    asked = _checked(submission.fields, origin, faults=faults, metadata_text=metadata_text)
    assert isinstance(source, PayloadRef)
    reference = msgspec.structs.replace(source, key=_key(source.sha256, origin, asked["collection"]))
    return _with_record(
        asked | {"text_ref": to_json(reference)},
        origin,
        metadata=metadata,
        upload=None,
        copy=Copy(source=source, key=reference.key),
        reference=reference,
        cost=source.size_bytes,
    )


def _checked(
    fields: Mapping[str, object], origin: DocumentOrigin, *, faults: list[Fault], metadata_text: str | None
) -> dict[str, object]:
    """Return the fields of a record without its text. Raises Invalid, with *faults* and those of the fields."""
    asked = {**fields, "job_id": _job_id(origin), "expected_revision": origin.expected_revision}
    known = {fault.pointer for fault in faults}
    found = [renamed(fault, _NAMES) for fault in put_faults(asked)]
    faults = faults + [fault for fault in found if fault.pointer not in known]
    if metadata_text is not None and (detail := metadata_fault(metadata_text)):
        faults.append(Fault(pointer="/metadata", detail=detail))
    if faults:
        raise Invalid(faults[:FAULTS_MAX])
    return asked | {"metadata": metadata_text}


def _job_id(origin: DocumentOrigin) -> str:
    if origin.idempotency_key is None:
        return str(uuid7(origin.stamp.received_at))
    return idempotent_job_id(origin.principal.tenant, origin.idempotency_key)


def _kept(content: bytes, origin: DocumentOrigin, collection: object) -> tuple[Upload, PayloadRef]:
    """Return what is kept in object storage, and what refers to it."""
    sha256 = hashlib.sha256(content).digest()
    reference = PayloadRef(key=_key(sha256, origin, collection), size_bytes=len(content), sha256=sha256)
    return Upload(key=reference.key, content=content), reference


def _key(sha256: bytes, origin: DocumentOrigin, collection: object) -> str:
    return f"{origin.principal.tenant}/documents/{collection}/{sha256.hex()}"


def _with_record(
    asked: Mapping[str, object],
    origin: DocumentOrigin,
    *,
    metadata: Any,
    upload: Upload | None,
    cost: int,
    reference: PayloadRef | None = None,
    copy: Copy | None = None,
) -> PreparedDocument:
    """Return the document of fields that are valid, so that they convert."""
    draft = msgspec.convert(
        {
            **asked,
            "tenant": origin.principal.tenant,
            "submitted_by": origin.principal.key_id,
            "content_sha256": _NO_DIGEST,
        },
        PutDocument,
        builtin_types=(bytes,),
        from_attributes=True,
    )
    command = msgspec.structs.replace(draft, content_sha256=content_of(draft, metadata=metadata))
    return PreparedDocument(
        job_id=command.job_id,
        is_derived=origin.idempotency_key is not None,
        collection=command.collection,
        document=command.document,
        lane=lane_of(command.priority),
        cost=cost,
        expected_revision=command.expected_revision,
        content_sha256=command.content_sha256,
        received_at=origin.stamp.received_at,
        record=command_record(command, origin.stamp),
        reference=reference,
        upload=upload,
        copy=copy,
    )
