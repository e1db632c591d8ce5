"""Query and path parameters and headers of the routes of documents."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from aiohttp import web

from gateway.documents.names import book_fault
from gateway.documents.store import DocumentJobFilter, DocumentJobPlace
from gateway.errors import InvalidPath, NotFound
from gateway.http import paging
from gateway.http.paging import Query, bad, bad_cursor, read_choice, read_number
from schemas.documents.rules import NO_DOCUMENT, REVISION_MAX, document_fault
from schemas.documents.states import Phase
from schemas.errors import Fault, Invalid
from schemas.texts import label_fault

NO_JOB = "no such job"
NO_DOCUMENT_THERE = "no such document"
NO_COLLECTION = "no such collection"
IDEMPOTENCY_KEY = "Idempotency-Key"
STORED = "stored"
LONG_POLL_MAX_S = 10


def read_id(text: str) -> str:
    """Return the id of a job in its usual form. Raises NotFound: no job has such an id."""
    try:
        return str(UUID(text))
    except ValueError:
        raise NotFound(NO_JOB) from None


def read_book(path: Mapping[str, str]) -> str:
    """Return the collection that the path names. Raises NotFound: none has such a name."""
    if book_fault(path["book"]):
        raise NotFound(NO_COLLECTION)
    return path["book"]


def read_names(path: Mapping[str, str]) -> tuple[str, str]:
    """Return the collection and the document that the path names. Raises NotFound: none has such a name."""
    if book_fault(path["book"]) or document_fault(path["chapter"]):
        raise NotFound(NO_DOCUMENT_THERE)
    return path["book"], path["chapter"]


def read_new_names(path: Mapping[str, str]) -> tuple[str, str]:
    """Return the collection and the document that the path names. Raises InvalidPath: none may have such a name."""
    faults = [
        Fault(pointer="", detail=f"the {name} in the path must be {fault}")
        for name, fault in (("book", book_fault(path["book"])), ("chapter", document_fault(path["chapter"])))
        if fault
    ]
    if faults:
        raise InvalidPath(faults)
    return path["book"], path["chapter"]


def read_expected(request: web.BaseRequest) -> int | None:
    """
    Return the revision that a document must have, by If-Match or If-None-Match; None: any.

    Raises:
        Invalid: a header is not valid, or both are sent.
    """
    revision, none = request.headers.get("If-Match"), request.headers.get("If-None-Match")
    if revision is not None and none is not None:
        raise _bad_header("If-Match asks for a revision, If-None-Match for none: send one of the two")
    if none is not None:
        if none.strip() != "*":
            raise _bad_header("If-None-Match must be *")
        return NO_DOCUMENT
    if revision is None:
        return None
    digits = revision.strip().removeprefix('"').removesuffix('"')
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(REVISION_MAX))):
        raise _bad_header('If-Match must be a revision, such as "1042"')
    return min(int(digits), REVISION_MAX)


def read_idempotency_key(request: web.BaseRequest) -> str | None:
    """Return the Idempotency-Key; None without it. Raises Invalid: it is not valid."""
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is not None and (fault := label_fault(key) or _utf8_fault(key)):
        raise _bad_header(f"{IDEMPOTENCY_KEY} must be {fault}")
    return key


def read_wait(query: Query) -> bool:
    """Return True if the answer is held until the job has ended. Raises BadQuery."""
    if "wait" in query and query["wait"] != STORED:
        raise bad("wait", f"must be {STORED}")
    return "wait" in query


def read_long_poll(query: Query) -> int:
    """Return the seconds that the answer may be held. Raises BadQuery."""
    return read_number(query, "wait", default=0, smallest=0, largest=LONG_POLL_MAX_S)


def read_job_filter(query: Query) -> DocumentJobFilter:
    """Return the filter of the requested jobs. Raises BadQuery."""
    collection = read_collection(query)
    document = query.get("chapter_index")
    if document is not None:
        if collection is None:
            raise bad("chapter_index", "is of a book: send book_slug too")
        if fault := document_fault(document):
            raise bad("chapter_index", f"must be {fault}")
    return DocumentJobFilter(
        phase=read_choice(query, "status", Phase),
        collection=collection,
        document=document,
        parent_job=_uuid(query, "parent_job"),
    )


def read_collection(query: Query) -> str | None:
    """Return a filter by collection; None asks for all. Raises BadQuery."""
    collection = query.get("book_slug")
    if collection is not None and (fault := book_fault(collection)):
        raise bad("book_slug", f"must be {fault}")
    return collection


def job_cursor(last: DocumentJobPlace) -> str:
    """Return the cursor of the page after *last*."""
    return paging.cursor((last.submitted_at, last.job_id))


def read_job_cursor(query: Query) -> DocumentJobPlace | None:
    """Return the place after which the page begins; None is the first page. Raises BadQuery."""
    if "cursor" not in query:
        return None
    moment, job_id = paging.read_cursor(query["cursor"], tuple[datetime, UUID])
    if moment.tzinfo is None:
        raise bad_cursor()
    return DocumentJobPlace(moment, str(job_id))


def read_document_cursor(query: Query) -> tuple[str, str] | None:
    """Return the collection and document after which the page begins; None is the first page. Raises BadQuery."""
    if "cursor" not in query:
        return None
    collection, document = paging.read_cursor(query["cursor"], tuple[str, str])
    if book_fault(collection) or document_fault(document):
        raise bad_cursor()
    return collection, document


def read_collection_cursor(query: Query) -> str | None:
    """Return the collection after which the page begins; None is the first page. Raises BadQuery."""
    if "cursor" not in query:
        return None
    (collection,) = paging.read_cursor(query["cursor"], tuple[str])
    if book_fault(collection):
        raise bad_cursor()
    return collection


def read_chunk_cursor(query: Query) -> int:
    """Return the ordinal after which the page begins; -1 is before the first. Raises BadQuery."""
    if "cursor" not in query:
        return -1
    (ordinal,) = paging.read_cursor(query["cursor"], tuple[int])
    if not 0 <= ordinal < 2**31:
        raise bad_cursor()
    return ordinal


def _uuid(query: Query, name: str) -> str | None:
    if name not in query:
        return None
    try:
        return str(UUID(query[name]))
    except ValueError:
        raise bad(name, "must be the id of a job") from None


def _bad_header(detail: str) -> Invalid:
    return Invalid([Fault(pointer="", detail=detail)])


def _utf8_fault(text: str) -> str | None:
    # A header's bytes that are not UTF-8 come as surrogates, which nothing can encode.
    return "UTF-8" if any("\ud800" <= character <= "\udfff" for character in text) else None
