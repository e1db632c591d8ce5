"""References to texts that are kept in object storage already: a client sends one in place of the text."""

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.access.credentials import Principal, Right
from schemas.documents.rules import TEXT_BYTES_MAX
from schemas.errors import Fault
from schemas.objects.references import PayloadRef

FORM = "an object of key, size_bytes and sha256, as an answer has it"

# Of a text of documents, or of a payload of a run: names of ours end with the digest of their content.
_KEY = re.compile(r"(?P<tenant>[^/]+)/(?P<of_documents>documents/)?[^/]+/(?P<sha256>[0-9a-f]{64})\Z")


class ObjectReference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A text in object storage, as the answer to it or an event's `payload_ref` names it."""

    key: str
    size_bytes: Annotated[int, Meta(ge=1, le=TEXT_BYTES_MAX)]
    sha256: Annotated[str, Meta(description="Of its bytes, in lower-case hex", pattern="^[0-9a-f]{64}$")]


def read_reference(value: object, principal: Principal) -> PayloadRef | Fault:
    """Return the reference in a body, or what is wrong with it: it must be of the tenant, and of what it may read."""
    try:
        named = msgspec.convert(value, ObjectReference)
    except msgspec.ValidationError:
        return Fault(pointer="/object", detail=FORM)
    found = _KEY.match(named.key)
    if found is None or found["sha256"] != named.sha256 or found["tenant"] != principal.tenant:
        return Fault(pointer="/object/key", detail="the key of a text or a payload of your own")
    reads_runs = Right.READ in principal.rights and principal.agents is None
    if found["of_documents"] is None and not reads_runs:
        return Fault(pointer="/object/key", detail="the key of a text: payloads of runs need the right read")
    return PayloadRef(key=named.key, size_bytes=named.size_bytes, sha256=bytes.fromhex(named.sha256))


def shown_reference(reference: PayloadRef) -> ObjectReference:
    """Return a reference as answers have it."""
    return ObjectReference(key=reference.key, size_bytes=reference.size_bytes, sha256=reference.sha256.hex())
