"""The API's responses about documents, their jobs and collections."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.documents.names import CHAPTER_RULE
from gateway.documents.objects import ObjectReference
from schemas.documents.presets import StageLimits
from schemas.documents.states import JobKind, Lane, Phase, Stage
from schemas.errors import ErrorCode, Fault
from schemas.pacing.presets import Preset

DocumentJobId = Annotated[str, Meta(description="The job: a UUID")]
DocumentWalId = Annotated[
    str, Meta(description="The receipt of the command: topic/partition/offset", examples=["document.commands/3/1042"])
]
Revision = Annotated[int, Meta(description="Of two revisions of one document the greater is newer")]
Chapter = Annotated[int | str, Meta(description=CHAPTER_RULE)]
DocumentWaited = Annotated[bool, Meta(description="With ?wait=stored: true if the job has ended, as `phase` says")]


class DocumentName(msgspec.Struct, frozen=True, kw_only=True):
    """The name of a document."""

    book_slug: str
    chapter_index: Chapter


class DocumentLinks(msgspec.Struct, frozen=True, kw_only=True):
    """The paths of one job."""

    status: Annotated[str, Meta(description="GET it")]
    cancel: Annotated[str, Meta(description="POST to it")]


class QueuePlace(msgspec.Struct, frozen=True, kw_only=True):
    """The work before a job in its lane, that of all tenants; each lane has its guaranteed share."""

    lane: Lane
    ahead_count: Annotated[int, Meta(description="Documents; in the state of a job counted to 10,000")]
    ahead_cost: Annotated[int, Meta(description="Their characters; of files that are not parsed yet an estimate")]
    ahead_s: Annotated[
        float | UnsetType,
        Meta(description="Seconds until they are done, at the rate of now; missing where none is known"),
    ] = UNSET


class DocumentAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """The command is in the log; with `duplicate`, its Idempotency-Key was used for the same before."""

    job_id: DocumentJobId
    document: DocumentName
    revision: Revision
    phase: Phase = Phase.SUBMITTED
    wal_id: DocumentWalId | UnsetType = UNSET
    links: DocumentLinks
    queue: Annotated[QueuePlace | UnsetType, Meta(description="Missing where it is not known")] = UNSET
    object: Annotated[
        ObjectReference | UnsetType,
        Meta(description="Of a text over 100 KiB: what other documents may send in its place, for a month"),
    ] = UNSET
    duplicate: bool | UnsetType = UNSET
    waited: DocumentWaited | UnsetType = UNSET


class DocumentResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of one document of a batch."""

    status: Annotated[
        Literal["accepted", "rejected", "retry"],
        Meta(description="rejected: never send it as it is; retry: send it again later, the same"),
    ]
    job_id: Annotated[str | None, Meta(description="Missing where the document is not valid")] = None
    document: DocumentName | None = None
    revision: Revision | None = None
    wal_id: DocumentWalId | None = None
    code: ErrorCode | None = None
    detail: str | None = None
    errors: Sequence[Fault] = ()


class DocumentBatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of each document, in the order they were sent; with 207 not all of them are accepted."""

    results: Sequence[DocumentResult]
    waited: DocumentWaited | UnsetType = UNSET


class JobError(msgspec.Struct, frozen=True, kw_only=True):
    """The failure of a job, or of its last attempt."""

    stage: Stage | None = None
    reason: str | None = None
    detail: str | None = None
    chunk: Annotated[int | None, Meta(description="The chunk that failed, counted from 0")] = None


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a job: *done* of so many chunks have their vectors."""

    done: int
    of: int


class StageTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The times at which a job passed its stages; the last attempt counts."""

    submitted_at: datetime
    queued_at: datetime | None
    begun_at: datetime | None
    chunked_at: datetime | None
    embedded_at: datetime | None
    ended_at: datetime | None
    queue_s: Annotated[float | None, Meta(description="From the gateway's receipt to the start of work")]
    chunk_s: Annotated[float | None, Meta(description="Parsing, where it is a file, and chunking")]
    embed_s: Annotated[float | None, Meta(description="Embedding, with the waits for a turn of the embedder")]
    store_s: Annotated[float | None, Meta(description="From the last vector to the commit")]


class DocumentJobSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One job."""

    job_id: DocumentJobId
    document: DocumentName
    revision: Revision
    kind: JobKind
    phase: Annotated[Phase, Meta(description="It never goes back within a generation")]
    priority: int
    lane: Lane
    cost: Annotated[int, Meta(description="Characters; of a file that is not parsed yet an estimate")]
    generation: Annotated[int, Meta(description="Grows with each retry by hand")]
    attempts: Annotated[int, Meta(description="That failed, of this generation")]
    max_retries: int
    version: Annotated[int, Meta(description="Grows with each change, as in document.events")]
    embedded: Annotated[Embedded | None, Meta(description="Null until the text is chunked")]
    error: JobError | None
    parent_job: Annotated[str | None, Meta(description="The job of the file that this is a part of")]
    submitted_by: Annotated[str | None, Meta(description="The id of the API key")]
    times: StageTimes


class DocumentJobView(DocumentJobSummary, frozen=True, kw_only=True):
    """One job with all that is known of it."""

    metadata: msgspec.Raw | None
    filename: Annotated[str | None, Meta(description="Of an upload")]
    content_type: Annotated[str | None, Meta(description="Of an upload, as it was declared")]
    parts: Annotated[msgspec.Raw | None, Meta(description="The documents that a file became")]
    queue: Annotated[QueuePlace | UnsetType, Meta(description="Of a job that waits for its first stage")] = UNSET
    traceparent: str | None
    links: DocumentLinks | UnsetType = UNSET
    visible: bool = True


class HiddenDocumentJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that may be in the log, and that intake has not come to."""

    job_id: DocumentJobId
    phase: Literal["submitted"] = "submitted"
    visible: bool = False
    links: DocumentLinks


class DocumentJobPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs, the newest first."""

    jobs: Annotated[
        Sequence[DocumentJobSummary],
        Meta(description="With filters a page may hold fewer than `limit`, even none, and go on by its cursor"),
    ]
    next_cursor: Annotated[str | None, Meta(description="Where the next page begins; null on the last")]


class DocumentJobChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a job is in the log."""

    job_id: DocumentJobId
    phase: Annotated[Phase, Meta(description="After the change, where it is applied; else before it")]
    wal_id: DocumentWalId
    applied: Annotated[bool, Meta(description="True if intake has applied it; else it will soon")]


class DocumentView(msgspec.Struct, frozen=True, kw_only=True):
    """One document. Searches see its live revision alone."""

    document: DocumentName
    latest_revision: Annotated[int, Meta(description="Of its newest command")]
    live_revision: Annotated[int | None, Meta(description="Null: no version is live yet")]
    live_job: str | None
    text_sha256: Annotated[str | None, Meta(description="Of the text as it is indexed, in hex")]
    parser: str | None
    chunker: str | None
    characters: int | None
    chunks: int | None
    missing: Annotated[msgspec.Raw | None, Meta(description="Chunks that were left out, with on_chunk_error: skip")]
    metadata: msgspec.Raw | None
    stored_at: datetime | None


class DocumentPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of live documents, by book and then by chapter as texts."""

    documents: Sequence[DocumentView]
    next_cursor: str | None


class ChunkView(msgspec.Struct, frozen=True, kw_only=True):
    """One chunk of the live version."""

    chunk: Annotated[int, Meta(description="Counted from 0")]
    span: Annotated[tuple[int, int], Meta(description="Start and end in the text, in code points")]
    heading: str | None
    text: str


class ChunkPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of chunks, in the order of the text."""

    document: DocumentName
    revision: Revision
    embedder: Annotated[str, Meta(description="The id of the embedder whose chunks these are")]
    chunks: Sequence[ChunkView]
    next_cursor: str | None


class CollectionView(msgspec.Struct, frozen=True, kw_only=True):
    """One collection: a book."""

    book_slug: str
    embedder: Annotated[str, Meta(description="The id of the embedder that searches use")]
    embedder_name: str
    building: Annotated[str | None, Meta(description="The id of the one that takes its place when all is embedded")]
    building_name: str | None
    building_failed: Annotated[
        int, Meta(description="Documents that it failed at, counted to 10,000: it waits until there are none")
    ]
    is_blocked: Annotated[bool, Meta(description="Nothing is left to embed but what failed: retry it, or skip it")]
    language: Annotated[str, Meta(description="The text search configuration of Postgres")]
    documents: Annotated[int, Meta(description="Live ones, counted to 10,000")]
    chunks: Annotated[int, Meta(description="Of those that were counted")]
    is_estimate: Annotated[bool, Meta(description="There are more than were counted")]
    created_at: datetime


class CollectionPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of collections, by name."""

    collections: Sequence[CollectionView]
    next_cursor: str | None


class CollectionChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A command for a collection is in the log; a deletion is one record in each partition."""

    book_slug: str
    command_id: str
    wal_ids: Annotated[Sequence[str], Meta(description="The receipts of its records")]
    applied: Annotated[bool, Meta(description="True if intake has applied all of them; else it will soon")]


class LaneMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """The documents of the tenant that are in flight in one lane, among the 10,000 that were counted."""

    queue_depth: int
    queue_cost: int
    oldest_s: Annotated[float | None, Meta(description="Age of the oldest; null where none is")]


class StageMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """One stage, over the jobs of the window."""

    items_processed: Annotated[int, Meta(description="Documents that left the stage")]
    items_failed: Annotated[int, Meta(description="Documents whose job failed in the stage")]
    avg_time_per_item_ms: Annotated[float | None, Meta(description="Mean time in the stage; null where none left it")]
    last_item_time_ms: float | None


class DocumentMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """
    The figures of the tenant's documents.

    The window is the last 15 minutes, or the newest 10,000 jobs that ended if there are more.
    """

    balance: Annotated[
        str,
        Meta(
            description="The line that adds up: submitted = completed + unchanged + superseded + deleted + cancelled "
            "+ failed + in flight; each job ends in exactly one"
        ),
    ]
    total_submitted: Annotated[int, Meta(description="Jobs that intake has seen; retries of one count once")]
    total_completed: Annotated[int, Meta(description="Jobs whose revision became live")]
    total_unchanged: int
    total_superseded: int
    total_deleted: int
    total_cancelled: int
    total_failed: Annotated[int, Meta(description="Retries used up, or never to succeed")]
    in_flight: int
    throughput_items_per_sec: Annotated[float, Meta(description="Completed in the last 60 s, a second")]
    throughput_chunks_per_sec: float
    throughput_chars_per_sec: float
    success_rate_percent: Annotated[
        float | None, Meta(description="100 x completed / (completed + failed) in the window; null if none ended")
    ]
    p95_latency_ms: Annotated[
        float | None, Meta(description="From the gateway's receipt to the commit, of those completed in the window")
    ]
    p99_latency_ms: float | None
    current_rate_multiplier: Annotated[
        float,
        Meta(
            description="The admitted rate as a part of what is done, 0.2 to 2.0, of the lane that is held down most; "
            "1.0 without a limit"
        ),
    ]
    tokens_available: Annotated[
        float | None,
        Meta(
            description="Characters that may come at once, of the lane that has the least; below 0 while a large "
            "document is paid off; null without a limit"
        ),
    ]
    queue_depth: Annotated[int, Meta(description="Documents in flight: in the lanes, or embedded and not committed")]
    queue_cost: Annotated[int, Meta(description="Their characters; of files that are not parsed yet an estimate")]
    queue_seconds: Annotated[
        float | None, Meta(description="Until they are done, at the rate of the last 60 s; null without one")
    ]
    lanes: Mapping[Lane, LaneMetrics]
    avg_processing_time_ms: Annotated[
        float | None, Meta(description="From the start of work to the last vector, mean of the window")
    ]
    stages: Mapping[Literal["chunk", "embed", "store"], StageMetrics]


class PresetList(msgspec.Struct, frozen=True, kw_only=True):
    """The presets of environments, and those of the controller of rates."""

    presets: Annotated[
        Mapping[str, StageLimits], Meta(description="Of environments: TIDEGATE_DOCUMENTS_PRESET names one")
    ]
    controllers: Annotated[Mapping[str, Preset], Meta(description="Of the controller that keeps a backlog short")]


class LegHit(msgspec.Struct, frozen=True, kw_only=True):
    """The place of a hit in one leg."""

    rank: Annotated[int, Meta(description="From 1, within one embedder's collections")]
    score: Annotated[float, Meta(description="vector: the cosine; text: ts_rank")]


class SearchHit(msgspec.Struct, frozen=True, kw_only=True):
    """One chunk that was found."""

    document: DocumentName
    revision: Revision
    chunk: int
    span: Annotated[tuple[int, int], Meta(description="Start and end in the document's text, in code points")]
    heading: str | None
    text: str
    score: Annotated[float, Meta(description="The sum over the legs of 1 / (3 + rank)")]
    vector: Annotated[LegHit | None, Meta(description="Null: not among the first 100 of the leg")]
    words: Annotated[LegHit | None, Meta(description="Of the text leg; null: not among its first 100")]
    metadata: msgspec.Raw | None


class SearchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The best hits."""

    hits: Sequence[SearchHit]
    embedders: Annotated[Sequence[str], Meta(description="The ids of the embedders that were searched by")]
    complete: Annotated[bool, Meta(description="False: a scan ended short, and more may match")]
    degraded: Annotated[
        Sequence[str], Meta(description="The legs that failed or took too long, and why; the others are answered")
    ]
    took_ms: float
