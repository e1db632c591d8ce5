"""The routes of documents."""

from typing import Annotated

from msgspec import Meta

from gateway.documents.handlers import collections, deleting, jobs, reading, searching, submitting, uploading
from gateway.documents.handlers.uploading import UPLOAD_BYTES_MAX
from gateway.documents.parameters import LONG_POLL_MAX_S, STORED
from gateway.documents.parsing.files import FILE_TYPES, FORM, OCTETS, UploadForm
from gateway.documents.parsing.searches import SearchBody
from gateway.documents.parsing.submission import BookSlug, DocumentBody, DocumentContent, Priority
from gateway.documents.parts import DocumentParts
from gateway.documents.views import (
    ChunkPage,
    CollectionChanged,
    CollectionPage,
    DocumentAccepted,
    DocumentBatchAnswer,
    DocumentJobChanged,
    DocumentJobPage,
    DocumentJobView,
    DocumentMetrics,
    DocumentPage,
    DocumentView,
    HiddenDocumentJob,
    PresetList,
    SearchAnswer,
)
from gateway.http.bodies import BATCHES, TEXTS
from gateway.http.paging import BY_CURSOR
from gateway.http.refusals import KEYED, READS, WRITES
from gateway.http.routes import BodySpec, Chapter, Parameter, Route
from gateway.http.waiting import WAIT_MAX_S
from schemas.access.credentials import Right
from schemas.documents.rules import DOCUMENT_PATTERN, METADATA_BYTES_MAX, TEXT_BYTES_MAX
from schemas.documents.states import Phase
from schemas.errors import ErrorCode

# A text of the largest size, its line breaks and quotes escaped, with metadata, and room for the rest.
ONE_BYTES_MAX = 2 * TEXT_BYTES_MAX + METADATA_BYTES_MAX + 16 * 1024
BATCH_BYTES_MAX = 16 * 1024 * 1024
CHANGE_BYTES_MAX = 16 * 1024
SEARCH_BYTES_MAX = 512 * 1024

_WAIT = (
    Parameter(
        name="wait",
        type=Annotated[str, Meta(extra_json_schema={"enum": [STORED]})],
        description=f"Hold the response until the job has ended, {WAIT_MAX_S:g} s at most; `waited` in the answer says "
        "whether it has, and `phase` how",
    ),
)
_LONG_POLL = (
    Parameter(
        name="wait",
        type=Annotated[int, Meta(ge=0, le=LONG_POLL_MAX_S)],
        description="Seconds to hold the response until the job has ended",
    ),
)
_OF_BOOK = Parameter(name="book_slug", type=BookSlug, description="Only of this book")
_OF_CHAPTER = {"chapter": DOCUMENT_PATTERN}
_UPLOADS = (*WRITES, ErrorCode.STORE_UNAVAILABLE, ErrorCode.IDEMPOTENCY_CONFLICT)
_SUBMISSIONS = (*_UPLOADS, ErrorCode.NOT_FOUND)
_WITHOUT_BODY = (*KEYED, ErrorCode.BACKPRESSURE, ErrorCode.LOG_UNAVAILABLE)
_CHANGES = (*_WITHOUT_BODY, ErrorCode.STORE_UNAVAILABLE, ErrorCode.NOT_FOUND, ErrorCode.JOB_STATE)
_FINDS = (*READS, ErrorCode.NOT_FOUND)
_THERE_ALREADY = {200: "The Idempotency-Key was used for the same document before: `duplicate` is true"}

ROUTES: tuple[Route[DocumentParts], ...] = (
    Route(
        method="POST",
        path="/api/documents",
        handler=submitting.submit_document,
        answer=DocumentAccepted,
        status=202,
        also=_THERE_ALREADY,
        right=Right.DOCUMENTS_WRITE,
        body=BodySpec(type=DocumentBody, bytes_max=ONE_BYTES_MAX),
        query=_WAIT,
        refusals=_SUBMISSIONS,
    ),
    Route(
        method="POST",
        path="/api/documents/batch",
        handler=submitting.submit_documents,
        answer=DocumentBatchAnswer,
        status=202,
        also={207: "Not all of the documents are accepted"},
        right=Right.DOCUMENTS_WRITE,
        body=BodySpec(type=list[DocumentBody], bytes_max=BATCH_BYTES_MAX, media_types=BATCHES),
        query=_WAIT,
        refusals=(*WRITES, ErrorCode.STORE_UNAVAILABLE),
    ),
    Route(
        method="POST",
        path="/api/documents/uploads",
        handler=uploading.upload_document,
        answer=DocumentAccepted,
        status=202,
        also=_THERE_ALREADY,
        right=Right.DOCUMENTS_WRITE,
        body=BodySpec(
            type=UploadForm,
            bytes_max=UPLOAD_BYTES_MAX,
            media_types=(FORM,),
            packed=False,
            plain_types=(*FILE_TYPES, OCTETS),
        ),
        query=(
            *_WAIT,
            Parameter(name="book_slug", type=BookSlug, description="The book, where the body is the file itself"),
            Parameter(name="chapter_index", type=str, description="The chapter, where the body is the file itself"),
            Parameter(name="priority", type=Priority, description="The priority, where the body is the file itself"),
            Parameter(name="metadata", type=str, description="A JSON object, where the body is the file itself"),
            Parameter(name="filename", type=str, description="The name, where the body is the file itself"),
        ),
        refusals=_UPLOADS,
    ),
    Route(
        method="GET",
        path="/api/documents",
        handler=reading.list_documents,
        answer=DocumentPage,
        right=Right.DOCUMENTS_READ,
        query=(_OF_BOOK, *BY_CURSOR),
        refusals=READS,
    ),
    Route(
        method="GET",
        path="/api/documents/jobs",
        handler=jobs.list_document_jobs,
        answer=DocumentJobPage,
        right=Right.DOCUMENTS_READ,
        query=(
            Parameter(
                name="status",
                type=Annotated[str, Meta(extra_json_schema={"enum": list(Phase)})],
                description="Only jobs in this phase",
            ),
            _OF_BOOK,
            Parameter(name="chapter_index", type=str, description="With book_slug: only jobs of this chapter"),
            Parameter(name="parent_job", type=str, description="Only jobs of the parts of this job's file"),
            *BY_CURSOR,
        ),
        refusals=READS,
    ),
    Route(
        method="GET",
        path="/api/documents/jobs/{job_id}",
        handler=jobs.show_document_job,
        answer=(DocumentJobView, HiddenDocumentJob),
        right=Right.DOCUMENTS_READ,
        query=_LONG_POLL,
        refusals=(*_FINDS, ErrorCode.BACKPRESSURE, ErrorCode.LOG_UNAVAILABLE),
    ),
    Route(
        method="POST",
        path="/api/documents/jobs/{job_id}/cancel",
        handler=jobs.cancel_document_job,
        answer=DocumentJobChanged,
        status=202,
        right=Right.DOCUMENTS_WRITE,
        refusals=_CHANGES,
    ),
    Route(
        method="POST",
        path="/api/documents/jobs/{job_id}/retry",
        handler=jobs.retry_document_job,
        answer=DocumentJobChanged,
        status=202,
        right=Right.DOCUMENTS_WRITE,
        refusals=_CHANGES,
    ),
    Route(
        method="GET",
        path="/api/documents/collections",
        handler=collections.list_collections,
        answer=CollectionPage,
        right=Right.DOCUMENTS_READ,
        query=BY_CURSOR,
        refusals=READS,
    ),
    Route(
        method="POST",
        path="/api/documents/collections/{book}/reembed",
        handler=collections.reembed_collection,
        answer=CollectionChanged,
        status=202,
        right=Right.DOCUMENTS_WRITE,
        body=BodySpec(type=collections.ReembedBody, bytes_max=CHANGE_BYTES_MAX),
        refusals=(*WRITES, ErrorCode.STORE_UNAVAILABLE, ErrorCode.NOT_FOUND, ErrorCode.JOB_STATE),
    ),
    Route(
        method="GET",
        path="/api/documents/metrics",
        handler=reading.show_document_metrics,
        answer=DocumentMetrics,
        right=Right.DOCUMENTS_READ,
        refusals=READS,
    ),
    Route(
        method="GET",
        path="/api/documents/presets",
        handler=reading.list_presets,
        answer=PresetList,
        right=Right.DOCUMENTS_READ,
        refusals=KEYED,
    ),
    Route(
        method="DELETE",
        path="/api/documents/{book}",
        handler=deleting.delete_collection,
        answer=CollectionChanged,
        status=202,
        right=Right.DOCUMENTS_WRITE,
        refusals=(*_WITHOUT_BODY, ErrorCode.NOT_FOUND, ErrorCode.JOB_STATE),
    ),
    Route(
        method="PUT",
        path="/api/documents/{book}/{chapter}",
        handler=submitting.put_document,
        answer=DocumentAccepted,
        status=202,
        also=_THERE_ALREADY,
        right=Right.DOCUMENTS_WRITE,
        body=BodySpec(type=DocumentContent, bytes_max=ONE_BYTES_MAX, plain_types=TEXTS),
        patterns=_OF_CHAPTER,
        query=_WAIT,
        refusals=(*_SUBMISSIONS, ErrorCode.PRECONDITION_FAILED),
    ),
    Route(
        method="GET",
        path="/api/documents/{book}/{chapter}",
        handler=reading.show_document,
        answer=DocumentView,
        right=Right.DOCUMENTS_READ,
        patterns=_OF_CHAPTER,
        refusals=_FINDS,
    ),
    Route(
        method="DELETE",
        path="/api/documents/{book}/{chapter}",
        handler=deleting.delete_document,
        answer=DocumentAccepted,
        status=202,
        right=Right.DOCUMENTS_WRITE,
        patterns=_OF_CHAPTER,
        query=_WAIT,
        refusals=(*_WITHOUT_BODY, ErrorCode.NOT_FOUND, ErrorCode.PRECONDITION_FAILED),
    ),
    Route(
        method="GET",
        path="/api/documents/{book}/{chapter}/chunks",
        handler=reading.list_chunks,
        answer=ChunkPage,
        right=Right.DOCUMENTS_READ,
        patterns=_OF_CHAPTER,
        query=BY_CURSOR,
        refusals=_FINDS,
    ),
    Route(
        method="POST",
        path="/api/search",
        handler=searching.search_documents,
        answer=SearchAnswer,
        right=Right.SEARCH,
        body=BodySpec(type=SearchBody, bytes_max=SEARCH_BYTES_MAX),
        refusals=(
            *KEYED,
            ErrorCode.TOON_VALIDATION_ERROR,
            ErrorCode.BAD_REQUEST,
            ErrorCode.REQUEST_TIMEOUT,
            ErrorCode.PAYLOAD_TOO_LARGE,
            ErrorCode.UNSUPPORTED_MEDIA_TYPE,
            ErrorCode.BACKPRESSURE,
            ErrorCode.STORE_UNAVAILABLE,
            ErrorCode.NOT_YET_STORED,
        ),
    ),
)

CHAPTER: Chapter[DocumentParts] = Chapter(
    tag="documents",
    description="Documents: submit texts and files, follow their jobs, read what is stored, and search it.",
    routes=ROUTES,
)
