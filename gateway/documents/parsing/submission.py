"""A document as a client submits it: its fields, and what is wrong with them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.documents.names import CHAPTER_RULE, book_fault, chapter_text
from gateway.documents.objects import ObjectReference
from gateway.http.documents import unknown_fault
from schemas.documents.rules import (
    COLLECTION_PATTERN,
    PRIORITY_DEFAULT,
    PRIORITY_MAX,
    PRIORITY_MIN,
    RETRIES_DEFAULT,
    RETRIES_MAX,
    TEXT_CHARACTERS_MAX,
)
from schemas.errors import Fault

BookSlug = Annotated[str, Meta(pattern=COLLECTION_PATTERN, examples=["emma"])]
ChapterIndex = Annotated[int | str, Meta(description=CHAPTER_RULE)]
Priority = Annotated[
    int, Meta(description="8 to 10 go by the lane high, 1 to 3 by low", ge=PRIORITY_MIN, le=PRIORITY_MAX)
]
Retries = Annotated[int, Meta(description="Of an attempt that failed", ge=0, le=RETRIES_MAX)]


class OnChunkError(StrEnum):
    """The consequence of a chunk that cannot be embedded."""

    FAIL = "fail"  # the document fails, and its previous version stays
    SKIP = "skip"  # the rest is stored, and the document lists what is missing


class TextFormat(StrEnum):
    """The format of a text."""

    PLAIN = "plain"
    MARKDOWN = "markdown"  # lines that begin with # are headings


class DocumentContent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document that the path names."""

    text: Annotated[
        Annotated[str, Meta(min_length=1, max_length=TEXT_CHARACTERS_MAX)] | UnsetType,
        Meta(description="Missing where `object` stands in its place"),
    ] = UNSET
    object: Annotated[
        ObjectReference | UnsetType,
        Meta(description="In place of `text`: one that is kept already, as the answer to it named it"),
    ] = UNSET
    format: TextFormat = TextFormat.PLAIN
    priority: Priority = PRIORITY_DEFAULT
    max_retries: Retries = RETRIES_DEFAULT
    on_chunk_error: OnChunkError = OnChunkError.FAIL
    metadata: Annotated[dict[str, Any] | UnsetType, Meta(description="What searches may filter by")] = UNSET


class DocumentBody(DocumentContent, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document."""

    book_slug: BookSlug
    chapter_index: ChapterIndex


_KNOWN = frozenset(DocumentBody.__struct_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentSubmission:
    """The fields of a document that were sent, by their names in the record; and what is wrong with their form."""

    fields: Mapping[str, object]
    text: object
    reference: object  # in place of the text
    faults: list[Fault] = field(default_factory=list)


def read_submission(members: Mapping[str, Any], *, named: tuple[str, str] | None) -> DocumentSubmission:
    """
    Return the fields of a document; *named* are the collection and the document that the path names, None: the body
    does. Null is the same as missing.
    """
    given = {name: value for name, value in members.items() if value is not None}
    faults = [unknown_fault(name) for name in members if name not in _KNOWN]
    collection, document = _names(given, faults) if named is None else _same_names(given, named, faults)
    text_format = _choice(given, "format", TextFormat, TextFormat.PLAIN, faults)
    on_chunk_error = _choice(given, "on_chunk_error", OnChunkError, OnChunkError.FAIL, faults)
    if "metadata" in given and not isinstance(given["metadata"], dict):
        faults.append(Fault(pointer="/metadata", detail="a JSON object"))
    fields = {
        "collection": collection,
        "document": document,
        "is_markdown": text_format is TextFormat.MARKDOWN,
        "skips_bad_chunks": on_chunk_error is OnChunkError.SKIP,
        "priority": given.get("priority", PRIORITY_DEFAULT),
        "max_retries": given.get("max_retries", RETRIES_DEFAULT),
    }
    return DocumentSubmission(fields=fields, text=given.get("text"), reference=given.get("object"), faults=faults)


def _names(given: Mapping[str, object], faults: list[Fault]) -> tuple[object, object]:
    book, chapter = given.get("book_slug"), chapter_text(given.get("chapter_index"))
    if fault := book_fault(book):
        faults.append(Fault(pointer="/book_slug", detail=fault))
    if isinstance(chapter, Fault):
        faults.append(chapter)
        return book, None
    return book, chapter


def _same_names(given: Mapping[str, object], named: tuple[str, str], faults: list[Fault]) -> tuple[str, str]:
    sent = (given.get("book_slug", named[0]), chapter_text(given.get("chapter_index", named[1])))
    for name, in_body, in_path in zip(("book_slug", "chapter_index"), sent, named, strict=True):
        if in_body != in_path:
            faults.append(Fault(pointer=f"/{name}", detail="the path names another; leave it out"))
    return named


def _choice(
    given: Mapping[str, object], name: str, choices: type[StrEnum], default: StrEnum, faults: list[Fault]
) -> StrEnum:
    value = given.get(name, default)
    if isinstance(value, str) and value in tuple(choices):
        return choices(value)
    faults.append(Fault(pointer=f"/{name}", detail=f"one of {', '.join(choices)}"))
    return default
