"""A search as a client sends it: its fields, and what is wrong with them."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.documents.names import book_fault, chapter_text
from gateway.documents.parsing.filters import Filter, FilterBody, read_filter
from gateway.documents.parsing.submission import BookSlug, ChapterIndex
from gateway.http.documents import read_object, unknown_fault
from schemas.documents.rules import REVISION_MAX
from schemas.errors import Fault, Invalid
from schemas.strictjson import FAULTS_MAX

QUERY_CHARACTERS_MAX = 100_000
HITS_DEFAULT, HITS_MAX = 10, 100
COLLECTIONS_NAMED_MAX = 1_000


class SearchMode(StrEnum):
    """The legs of a search."""

    HYBRID = "hybrid"
    VECTOR = "vector"
    TEXT = "text"


class SeenBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A revision that the search must see: of a document that was just sent."""

    book_slug: BookSlug
    chapter_index: ChapterIndex
    revision: Annotated[int, Meta(ge=0, le=REVISION_MAX)]


class SearchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A search."""

    query: Annotated[str, Meta(min_length=1, max_length=QUERY_CHARACTERS_MAX)]
    k: Annotated[int, Meta(description="Hits", ge=1, le=HITS_MAX)] = HITS_DEFAULT
    collections: Annotated[
        Annotated[Sequence[BookSlug], Meta(min_length=1, max_length=COLLECTIONS_NAMED_MAX)] | UnsetType,
        Meta(description="The books to search; all of the tenant by default"),
    ] = UNSET
    filters: Annotated[FilterBody | UnsetType, Meta(description="On the metadata of documents")] = UNSET
    mode: SearchMode = SearchMode.HYBRID
    group_by: Annotated[Literal["document"] | UnsetType, Meta(description="The best chunk of each document alone")] = (
        UNSET
    )
    min_revision: Annotated[
        SeenBody | UnsetType,
        Meta(
            description="Wait up to 5 s until this revision of this document, or a newer one, is live or deleted; "
            "else NOT_YET_STORED. Revisions of different documents cannot be compared"
        ),
    ] = UNSET


class SeenRevision(msgspec.Struct, frozen=True, kw_only=True):
    """A revision that the search must see."""

    collection: str
    document: str
    revision: int


class PreparedSearch(msgspec.Struct, frozen=True, kw_only=True):
    """A valid search."""

    query: str
    hits_max: int
    collections: tuple[str, ...] | None  # None: all
    filter: Filter | None
    mode: SearchMode
    by_document: bool
    seen: SeenRevision | None


def read_search(body: bytes) -> PreparedSearch:
    """
    Return the search in *body*. Null is the same as missing.

    Raises:
        NotJson: it does not parse.
        Invalid: it breaks a rule; every fault is listed.
    """
    members = read_object(body, "a search").members
    given = {name: value for name, value in members.items() if value is not None}
    faults = [unknown_fault(name) for name in members if name not in SearchBody.__struct_fields__]
    query, hits_max, mode = given.get("query"), given.get("k", HITS_DEFAULT), given.get("mode", SearchMode.HYBRID)
    if not isinstance(query, str) or not query.strip() or len(query) > QUERY_CHARACTERS_MAX:
        detail = f"a text of at most {QUERY_CHARACTERS_MAX} characters, with more than white space"
        faults.append(Fault(pointer="/query", detail=detail))
    if isinstance(hits_max, bool) or not isinstance(hits_max, int) or not 1 <= hits_max <= HITS_MAX:
        faults.append(Fault(pointer="/k", detail=f"an integer from 1 to {HITS_MAX}"))
    if not isinstance(mode, str) or mode not in tuple(SearchMode):
        faults.append(Fault(pointer="/mode", detail=f"one of {', '.join(SearchMode)}"))
    if given.get("group_by", "document") != "document":
        faults.append(Fault(pointer="/group_by", detail="document"))
    collections = _collections(given.get("collections"), faults)
    seen = _seen(given["min_revision"], faults) if "min_revision" in given else None
    found: Filter | None = None
    if "filters" in given:
        try:
            found = read_filter(given["filters"], pointer="/filters")
        except Invalid as error:
            faults += error.faults
    if faults:
        raise Invalid(faults[:FAULTS_MAX])
    return PreparedSearch(
        query=str(query),
        hits_max=int(hits_max),
        collections=collections,
        filter=found,
        mode=SearchMode(mode),
        by_document="group_by" in given,
        seen=seen,
    )


def _collections(value: object, faults: list[Fault]) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= COLLECTIONS_NAMED_MAX:
        faults.append(Fault(pointer="/collections", detail=f"a list of 1 to {COLLECTIONS_NAMED_MAX} names"))
        return None
    for number, name in enumerate(value):
        if fault := book_fault(name):
            faults.append(Fault(pointer=f"/collections/{number}", detail=fault))
    return tuple(dict.fromkeys(str(name) for name in value))


def _seen(value: object, faults: list[Fault]) -> SeenRevision | None:
    members: Mapping[str, Any] = value if isinstance(value, dict) else {}
    book, chapter = members.get("book_slug"), chapter_text(members.get("chapter_index"))
    revision = members.get("revision")
    is_book = isinstance(book, str) and not book_fault(book) and members.keys() <= set(SeenBody.__struct_fields__)
    is_revision = isinstance(revision, int) and not isinstance(revision, bool) and 0 <= revision <= REVISION_MAX
    if not (is_book and is_revision) or isinstance(chapter, Fault):
        detail = "an object of book_slug, chapter_index and revision"
        faults.append(Fault(pointer="/min_revision", detail=detail))
        return None
    return msgspec.convert({"collection": book, "document": chapter, "revision": revision}, SeenRevision)
