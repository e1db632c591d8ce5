"""
Payloads too large for the log: which they are, their names in object storage, and what refers to them.

Names are `tenant/run_id/sha256`, below whatever prefix a deployment has: the objects of a tenant or of a run are one
listing, no object ever changes, and a payload that is sent again is the same object: several events of a run may refer
to one.
"""

import hashlib
import re
from enum import StrEnum

import msgspec

INLINE_BYTES_MAX = 102_400  # of a payload's JSON text in UTF-8
UTF8_BYTES_MAX = 4  # of one character

_KEY = re.compile(r"(?P<tenant>[^/]+)/(?P<run_id>[^/]+)/[0-9a-f]{64}\Z")


class PayloadProblem(StrEnum):
    """The reason why a requested payload is not shown."""

    MISSING = "missing"
    DAMAGED = "damaged"
    UNAVAILABLE = "unavailable"  # for now: the storage is away
    TOO_LARGE = "too_large"  # for a websocket


class PayloadRef(msgspec.Struct, frozen=True, kw_only=True):
    """A reference to a payload that is too large for the log: its key in object storage, its size and its digest."""

    key: str
    size_bytes: int
    sha256: bytes


# What a reference stands for, or why that is not shown.
Kept = bytes | PayloadProblem


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    size_bytes: int
    sha256: str  # lower-case hex


def is_large(payload: str) -> bool:
    """Return True if a payload of this JSON text is kept in object storage, and not in the log."""
    # Only what comes near the bound is encoded to be measured.
    return len(payload) * UTF8_BYTES_MAX > INLINE_BYTES_MAX and len(payload.encode()) > INLINE_BYTES_MAX


def reference_to(content: bytes, *, tenant: str, run_id: str) -> PayloadRef:
    """Return what stands in a record for a payload of that run."""
    sha256 = hashlib.sha256(content)
    return PayloadRef(key=f"{tenant}/{run_id}/{sha256.hexdigest()}", size_bytes=len(content), sha256=sha256.digest())


def owner_of(key: str) -> tuple[str, str] | None:
    """Return the tenant and the run whose payload is kept under *key*; None if that is no name of ours."""
    found = _KEY.match(key)
    return None if found is None else (found["tenant"], found["run_id"])


def is_content_of(reference: PayloadRef, content: bytes) -> bool:
    """Return True if *content* is the payload that *reference* was made of."""
    return len(content) == reference.size_bytes and hashlib.sha256(content).digest() == reference.sha256


def to_json(reference: PayloadRef) -> str:
    """Return the JSON text by which tables and answers show a reference."""
    document = _Document(key=reference.key, size_bytes=reference.size_bytes, sha256=reference.sha256.hex())
    return msgspec.json.encode(document).decode()


def from_json(text: bytes | str) -> PayloadRef:
    """Return the reference that `to_json` made *text* of."""
    document = msgspec.json.decode(text, type=_Document)
    return PayloadRef(key=document.key, size_bytes=document.size_bytes, sha256=bytes.fromhex(document.sha256))
