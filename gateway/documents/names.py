"""Names of documents as the API has them: a book's slug, and the index of a chapter as a number or a text."""

import re

from schemas.documents.rules import CHAPTER_MAX, collection_fault, document_fault
from schemas.errors import Fault

CHAPTER_RULE = (
    "An integer from 0, or a text of 1 to 512 characters. It is kept as a text: 7 and '7' are one chapter, '07' is "
    "another. It is shown as an integer where it is the usual decimal form of one up to 2^53 - 1."
)
RESERVED = frozenset({"batch", "collections", "jobs", "metrics", "presets", "uploads"})
"""The names that paths below /api/documents have, and so no book."""

_CANONICAL = re.compile(r"(?:0|[1-9][0-9]{0,15})\Z")


def book_fault(value: object) -> str | None:
    """Return what is wrong with the slug of a book; None if nothing is."""
    if value in RESERVED:
        return f"a name that no path of the API has ({', '.join(sorted(RESERVED))})"
    return collection_fault(value)


def chapter_text(value: object) -> str | Fault:
    """Return the text of a chapter's index as it is kept, or what is wrong with it."""
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value <= CHAPTER_MAX:
            return str(value)
        return Fault(pointer="/chapter_index", detail=f"an integer from 0 to {CHAPTER_MAX}")
    if fault := document_fault(value):
        return Fault(pointer="/chapter_index", detail=f"an integer or {fault}")
    return str(value)


def shown_chapter(document: str) -> int | str:
    """Return a chapter's index as answers have it: an integer where its text is the usual form of one."""
    if _CANONICAL.match(document) and (number := int(document)) <= CHAPTER_MAX:
        return number
    return document
