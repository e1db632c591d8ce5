"""Port for reading documents and their jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec

from gateway.documents.views import (
    ChunkPage,
    CollectionView,
    DocumentJobSummary,
    DocumentJobView,
    DocumentView,
)
from gateway.kafka.effect import Effect
from schemas.documents.states import JobKind, Lane, Phase
from schemas.kafka.places import RecordPlace

COUNTED_MAX = 10_000  # of a number that is shown
LOOKED_AT_MAX = 10_000  # jobs that one page looks through for those that a filter admits
WINDOW_S = 900
WINDOW_JOBS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentJobBrief:
    """The part of a job that decides what may be done to it."""

    job_id: str
    collection: str
    document: str
    revision: int
    kind: JobKind
    phase: Phase
    generation: int
    content_sha256: bytes | None
    reason: str | None  # why it failed
    embedded_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revisions:
    """The revisions of a document."""

    latest: int
    live: int | None
    deleted: int | None

    @property
    def exists(self) -> bool:
        """Return True if its newest command is no Delete."""
        return self.deleted is None or self.deleted < self.latest


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentJobFilter:
    """The jobs that are asked for; None asks for all."""

    phase: Phase | None = None
    collection: str | None = None
    document: str | None = None  # only beside a collection
    parent_job: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentJobPlace:
    """The place of a job in a list: where the next page goes on."""

    submitted_at: datetime
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeTotal:
    """The jobs of one outcome."""

    count: int
    cost: int


class EndedJob(msgspec.Struct, frozen=True, kw_only=True):
    """One job that ended recently."""

    phase: Phase
    cost: int
    chunks: int | None
    failed_stage: str | None
    submitted_at: datetime
    begun_at: datetime | None
    chunked_at: datetime | None
    embedded_at: datetime | None
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneDepth:
    """The jobs of a tenant that are in flight in one lane, among those that were counted."""

    count: int
    cost: int
    oldest_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneWork:
    """The work of one lane, of all tenants; costs are in characters."""

    count: int  # of documents in flight, but for those that wait for their next attempt
    cost: int  # of these
    done_cost: int  # of all documents that were ever stored, or failed
    oldest_s: float | None  # the age of the one that has waited longest; None: not known, or nothing waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The facts that metrics are made of."""

    now: datetime
    totals: Mapping[str, OutcomeTotal]  # by outcome
    ended: Sequence[EndedJob]  # the newest first, of the window
    ended_max: int = WINDOW_JOBS_MAX  # so many at most were read
    lanes: Mapping[Lane, LaneDepth]


class DocumentStore(Protocol):
    """
    Reads of documents; each takes the tenant's name, but for what lanes and embedders are asked.

    Every read is bounded, however many documents there are. Every method raises StoreUnavailable when Postgres is away,
    slow, or not migrated: answer 503.
    """

    async def job(self, tenant: str, job_id: str) -> DocumentJobView | None:
        """Return a job; None if the tenant has none of that id."""

    async def brief(self, tenant: str, job_id: str) -> DocumentJobBrief | None:
        """Return the same in brief."""

    async def ended(self, tenant: str, job_ids: Sequence[str]) -> Mapping[str, Phase]:
        """Return those of the jobs that have ended, and how."""

    async def jobs(
        self, tenant: str, admitted: DocumentJobFilter, *, after: DocumentJobPlace | None, limit: int
    ) -> tuple[Sequence[DocumentJobSummary], DocumentJobPlace | None]:
        """
        Return at most *limit* jobs, the newest first, fewer where `LOOKED_AT_MAX` jobs hold no more of them.

        Beside them stands the place from which the next page goes on; None if no more follow.
        """

    async def unfinished(self, tenant: str, *, count_max: int) -> int:
        """Return how many jobs of a tenant have not ended, up to *count_max*."""

    async def revisions(self, tenant: str, collection: str, document: str) -> Revisions | None:
        """Return the revisions of a document; None if there never was one."""

    async def document(self, tenant: str, collection: str, document: str) -> DocumentView | None:
        """Return a document; None if there is none, or its newest command deleted it."""

    async def documents(
        self, tenant: str, collection: str | None, *, after: tuple[str, str] | None, limit: int
    ) -> tuple[Sequence[DocumentView], tuple[str, str] | None]:
        """Return at most *limit* live documents by name, and the name from which the next page goes on."""

    async def chunks(self, tenant: str, collection: str, document: str, *, after: int, limit: int) -> ChunkPage | None:
        """Return at most *limit* chunks behind the ordinal *after*; None if no version is live."""

    async def collection(self, tenant: str, collection: str) -> CollectionView | None:
        """Return a collection; None if there is none."""

    async def collections(self, tenant: str, *, after: str | None, limit: int) -> tuple[Sequence[CollectionView], bool]:
        """Return at most *limit* collections by name, behind the one named *after*; and True if more follow."""

    async def embedder(self, name: str) -> str | None:
        """Return the id of the embedder of that name or id, of one name the one that was started last; None: none."""

    async def figures(self, tenant: str) -> Figures:
        """Return what metrics are made of: `document_totals`, and bounded reads of the newest rows."""

    async def work(self) -> Mapping[Lane, LaneWork]:
        """Return the work of every lane: from `document_totals`, and the first rows of what is in flight."""

    async def effect(self, tenant: str, place: RecordPlace, command_id: str | None) -> Effect | None:
        """Return what the command at *place* came to; None if the tenant has nothing of it from there."""
