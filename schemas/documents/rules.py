"""The form of commands for documents: bounds, names and fields. It needs no credentials and no record."""

import re
from collections.abc import Mapping

from schemas.errors import Fault, faults_among
from schemas.ids import ID_PATTERN, is_id, uuid_fault
from schemas.jsonb import NUMBER_FAULT, is_numeric
from schemas.texts import exceeds, label_fault

MIB = 1024 * 1024
TEXT_CHARACTERS_MAX = 2 * MIB
TEXT_BYTES_MAX = 2 * TEXT_CHARACTERS_MAX
FILE_BYTES_MAX = 32 * MIB
FILE_COST_MAX = 500_000
"""In characters, about a long novel: a larger file has pictures for the most part."""
INLINE_BYTES_MAX = 100 * 1024  # of a text or a file that stands in its record
METADATA_BYTES_MAX = 16 * 1024
DOCUMENT_CHARACTERS_MAX = 512
BATCH_DOCUMENTS_MAX = 500
PRIORITY_DEFAULT, PRIORITY_MIN, PRIORITY_MAX = 5, 1, 10
RETRIES_DEFAULT, RETRIES_MAX = 3, 10
CHAPTER_MAX = 2**53 - 1
REVISION_MAX = 2**63 - 1
NO_DOCUMENT = -1
"""As the revision that a Put expects: there must be no document yet."""

COLLECTION_PATTERN = ID_PATTERN
DOCUMENT_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f]{1,512}$"

_DOCUMENT = re.compile(rf"[^\x00-\x1f\x7f-\x9f]{{1,{DOCUMENT_CHARACTERS_MAX}}}\Z")


def collection_fault(value: object) -> str | None:
    """Return what is wrong with the name of a collection; None if nothing is."""
    if isinstance(value, str) and is_id(value):
        return None
    return "1 to 128 letters, digits, '.', '_', ':' or '-'"


def document_fault(value: object) -> str | None:
    """Return what is wrong with the name of a document; None if nothing is."""
    if isinstance(value, str) and _DOCUMENT.match(value):
        return None
    return f"a text of 1 to {DOCUMENT_CHARACTERS_MAX} characters without control characters"


def priority_fault(value: object) -> str | None:
    """Return what is wrong with a priority; None if nothing is."""
    return _whole_fault(value, PRIORITY_MIN, PRIORITY_MAX)


def retries_fault(value: object) -> str | None:
    """Return what is wrong with a number of retries; None if nothing is."""
    return _whole_fault(value, 0, RETRIES_MAX)


def revision_fault(value: object) -> str | None:
    """Return what is wrong with the revision that a command expects; None if nothing is."""
    return _whole_fault(value, NO_DOCUMENT, REVISION_MAX)


def file_cost(size_bytes: int) -> int:
    """Return the cost of a file until it is parsed, in characters: an estimate."""
    return min(size_bytes, FILE_COST_MAX)


def put_faults(fields: Mapping[str, object]) -> list[Fault]:
    """Return everything that is wrong with the fields of a Put, named as its record has them, but for its text."""
    return faults_among(fields, required=_REQUIRED, optional=_OPTIONAL)


def text_fault(text: str) -> str | None:
    """Return what is wrong with the text of a document; None if nothing is."""
    if not text.strip():
        return "a text with more than white space"
    if len(text) > TEXT_CHARACTERS_MAX:
        return f"more than {TEXT_CHARACTERS_MAX} characters: send its parts as documents of their own"
    return None


def metadata_fault(text: str) -> str | None:
    """Return what is wrong with the JSON text of metadata, which `strictjson` takes; None if nothing is."""
    if exceeds(text, METADATA_BYTES_MAX):
        return f"more than {METADATA_BYTES_MAX} bytes of JSON"
    return None if is_numeric(text) else NUMBER_FAULT  # it is kept as jsonb


def _whole_fault(value: object, least: int, most: int) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        return f"an integer from {least} to {most}"
    return None


_REQUIRED = (
    ("job_id", uuid_fault),
    ("collection", collection_fault),
    ("document", document_fault),
    ("priority", priority_fault),
    ("max_retries", retries_fault),
)
_OPTIONAL = (
    ("expected_revision", revision_fault),
    ("parent_job", uuid_fault),
    ("submitted_by", label_fault),
)
