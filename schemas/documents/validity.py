"""
The rules for a record of `document.commands` that no gateway of ours has sealed: anyone may produce to Kafka.

A direct producer may put and delete documents, and change jobs; whole collections are changed through a gateway, which
knows the rights of a key. The other topics of documents are written by processors alone.
"""

import msgspec

from schemas import strictjson
from schemas.access.credentials import Credentials
from schemas.documents.records import (
    ChangeDocumentJob,
    Command,
    DeleteDocument,
    DocumentEmbedded,
    DocumentWork,
    PutDocument,
    content_sha256,
    key_of,
)
from schemas.documents.rules import (
    INLINE_BYTES_MAX,
    collection_fault,
    document_fault,
    metadata_fault,
    put_faults,
    revision_fault,
    text_fault,
)
from schemas.errors import Fault, Invalid, Poison, Reason, Rejection, faults_among
from schemas.ids import uuid_fault
from schemas.texts import exceeds, label_fault

_CHANGE = (
    ("job_id", uuid_fault),
    ("command_id", uuid_fault),
    ("collection", collection_fault),
    ("document", document_fault),
    ("by", label_fault),
)
_DELETE = (("job_id", uuid_fault), ("collection", collection_fault), ("document", document_fault))
_EXPECTED = (("expected_revision", revision_fault),)


def check_direct(command: Command, *, key: bytes | None, credentials: Credentials) -> Rejection | None:
    """
    Return why a record is not valid that was produced to Kafka directly; None if it is.

    Raises:
        Poison: a field that a text column keeps holds a NUL.
    """
    fields = msgspec.structs.asdict(command)
    if any("\0" in value for name, value in fields.items() if isinstance(value, str) and name != "text"):
        raise Poison(Reason.NUL_CHARACTER, "a text field holds a NUL character")
    if key != key_of(command):
        return Rejection(reason=Reason.KEY_MISMATCH, detail="the record's key is not the one that its content gives it")
    tenant = credentials.tenants.get(command.tenant)
    if tenant is None:
        return Rejection(reason=Reason.UNKNOWN_TENANT, detail=f"no tenant {command.tenant!r}")
    if not tenant.allow_unsigned_direct:
        return Rejection(reason=Reason.UNSIGNED_DIRECT, detail="the tenant takes no unsigned direct records")
    return _rejection(command)


def check_ours(
    record: DocumentWork | DocumentEmbedded, *, key: bytes | None, credentials: Credentials
) -> Rejection | None:
    """Return why a record that only processors write is not valid: none of ours sealed it."""
    del record, key, credentials
    return Rejection(reason=Reason.UNSIGNED_DIRECT, detail="this topic is written by Tidegate's processors alone")


def content_of(command: PutDocument, *, metadata: object) -> bytes:
    """Return the digest of a Put, its metadata decoded."""
    fields = msgspec.to_builtins(command, builtin_types=(bytes,))
    for name in ("tenant", "job_id", "submitted_by", "content_sha256"):
        del fields[name]
    if fields["source"] is not None:
        source = fields["source"]
        fields["source"] = {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in source.items()
            if value is not None
        }
    return content_sha256(fields | {"metadata": metadata})


def _rejection(command: Command) -> Rejection | None:
    match command:
        case PutDocument():
            return _put_rejection(command)
        case DeleteDocument():
            return _delete_rejection(command)
        case ChangeDocumentJob():
            return _rejected(faults_among(msgspec.structs.asdict(command), required=_CHANGE, optional=()))
        case _:
            detail = "whole collections are changed through the gateway"
            return Rejection(reason=Reason.INVALID_EVENT, detail=detail)


def _delete_rejection(command: DeleteDocument) -> Rejection | None:
    faults = faults_among(msgspec.structs.asdict(command), required=_DELETE, optional=_EXPECTED)
    if command.submitted_by is not None:
        faults.append(Fault(pointer="/submitted_by", detail="a direct record leaves it empty"))
    return _rejected(faults)


def _put_rejection(command: PutDocument) -> Rejection | None:
    faults = put_faults(msgspec.structs.asdict(command)) + _text_faults(command)
    if command.submitted_by is not None or command.parent_job is not None:
        faults.append(Fault(pointer="/submitted_by", detail="a direct record leaves it and parent_job empty"))
    if command.metadata is not None and (detail := metadata_fault(command.metadata)):
        faults.append(Fault(pointer="/metadata", detail=detail))
    if faults:
        return _rejected(faults)
    try:
        metadata = None if command.metadata is None else strictjson.decode_part("metadata", command.metadata)
    except Invalid as error:
        return _rejected(error.faults)
    except strictjson.NotJson as error:
        return Rejection(reason=Reason.INVALID_EVENT, detail=str(error))
    if not isinstance(metadata, dict | None):
        return Rejection(reason=Reason.INVALID_EVENT, detail="/metadata: a JSON object")
    if content_of(command, metadata=metadata) != command.content_sha256:
        detail = "content_sha256 is not the digest of the command's content"
        return Rejection(reason=Reason.DIGEST_MISMATCH, detail=detail)
    return None


def _text_faults(command: PutDocument) -> list[Fault]:
    if command.text is None or command.text_ref is not None or command.source is not None:
        # A reference would name an object that no gateway of ours has written, and files are checked by gateways.
        return [
            Fault(pointer="/text", detail=f"a direct record has its text in itself, at most {INLINE_BYTES_MAX} bytes")
        ]
    fault = text_fault(command.text)
    if fault is None and exceeds(command.text, INLINE_BYTES_MAX):
        fault = f"more than {INLINE_BYTES_MAX} bytes: send it through the gateway"
    return [Fault(pointer="/text", detail=fault)] if fault else []


def _rejected(faults: list[Fault]) -> Rejection | None:
    return Rejection(reason=Reason.INVALID_EVENT, detail=str(Invalid(faults))) if faults else None
