"""Documents in memory: a store, chunks that a search finds, and vectors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.documents.parsing.filters import Filter
from gateway.documents.search.legs import ChunkRow, LegAnswer, Scope
from gateway.documents.store import (
    DocumentJobBrief,
    DocumentJobFilter,
    DocumentJobPlace,
    Figures,
    LaneWork,
    Revisions,
)
from gateway.documents.views import (
    ChunkPage,
    ChunkView,
    CollectionView,
    DocumentJobSummary,
    DocumentJobView,
    DocumentName,
    DocumentView,
    StageTimes,
)
from gateway.kafka.effect import Effect
from schemas.documents.codec import COMMAND_CODEC
from schemas.documents.records import Command
from schemas.documents.states import IN_FLIGHT, JobKind, Lane, Phase
from schemas.documents.topics import DOCUMENT_COMMANDS
from schemas.kafka.places import RecordPlace
from tests.support.fakes import RecordingPublisher

NOW = datetime(2025, 12, 5, 10, 0, 0, 123000, UTC)  # of the gateway under test
JOB = "0190e3a0-0000-7000-8000-000000000011"
OTHER_JOB = "0190e3a0-0000-7000-8000-000000000012"
NO_WORK = LaneWork(count=0, cost=0, done_cost=0, oldest_s=None)
EMBEDDER, OTHER_EMBEDDER = "a" * 64, "b" * 64


@dataclass
class MemoryDocumentStore:
    """Documents in memory, by tenant; lists are in the order in which they are held."""

    stored: dict[str, list[DocumentJobView]] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)  # by job id
    unfinished_count: int | None = None  # as the test says; None: of those that are held
    revisions_of: dict[tuple[str, str, str], Revisions] = field(default_factory=dict)
    document_views: dict[str, list[DocumentView]] = field(default_factory=dict)
    chunk_pages: dict[tuple[str, str, str], ChunkPage] = field(default_factory=dict)
    collection_views: dict[str, list[CollectionView]] = field(default_factory=dict)
    embedder_ids: dict[str, str] = field(default_factory=dict)  # by name
    figures_of: Figures = field(default_factory=lambda: Figures(now=NOW, totals={}, ended=[], lanes={}))
    work_of: dict[Lane, LaneWork] = field(default_factory=dict)
    effects: dict[RecordPlace, Effect] = field(default_factory=dict)
    failure: Exception | None = None  # raised instead of looking
    applied: Callable[[], None] | None = None  # called before each look: what other processes did meanwhile
    asked: list[DocumentJobFilter] = field(default_factory=list)

    async def job(self, tenant: str, job_id: str) -> DocumentJobView | None:
        """Return the job of that id."""
        return next((view for view in self._of(tenant) if view.job_id == job_id), None)

    async def brief(self, tenant: str, job_id: str) -> DocumentJobBrief | None:
        """Return the same in brief."""
        view = await self.job(tenant, job_id)
        if view is None:
            return None
        return DocumentJobBrief(
            job_id=job_id,
            collection=view.document.book_slug,
            document=str(view.document.chapter_index),
            revision=view.revision,
            kind=view.kind,
            phase=view.phase,
            generation=view.generation,
            content_sha256=self.digests.get(job_id),
            reason=None if view.error is None else view.error.reason,
            embedded_at=view.times.embedded_at,
            ended_at=view.times.ended_at,
        )

    async def ended(self, tenant: str, job_ids: Sequence[str]) -> Mapping[str, Phase]:
        """Return those that have ended."""
        return {
            view.job_id: view.phase
            for view in self._of(tenant)
            if view.job_id in job_ids and view.phase not in IN_FLIGHT
        }

    async def jobs(
        self, tenant: str, admitted: DocumentJobFilter, *, after: DocumentJobPlace | None, limit: int
    ) -> tuple[Sequence[DocumentJobSummary], DocumentJobPlace | None]:
        """Return the jobs in the order in which they are held."""
        self.asked.append(admitted)
        mine = [view for view in self._of(tenant) if admitted.phase in (None, view.phase)]
        ids = [view.job_id for view in mine]
        rest = mine[ids.index(after.job_id) + 1 if after is not None else 0 :]
        page = [_summary(view) for view in rest[:limit]]
        more = len(rest) > limit
        return page, DocumentJobPlace(page[-1].times.submitted_at, page[-1].job_id) if more else None

    async def unfinished(self, tenant: str, *, count_max: int) -> int:
        """Count those that have not ended."""
        held = sum(view.phase in IN_FLIGHT for view in self._of(tenant))
        return min(held if self.unfinished_count is None else self.unfinished_count, count_max)

    async def revisions(self, tenant: str, collection: str, document: str) -> Revisions | None:
        """Return what the test says."""
        self._look()
        return self.revisions_of.get((tenant, collection, document))

    async def document(self, tenant: str, collection: str, document: str) -> DocumentView | None:
        """Return the document of that name."""
        self._look()
        mine = self.document_views.get(tenant, [])
        return next((each for each in mine if _name_of(each) == (collection, document)), None)

    async def documents(
        self, tenant: str, collection: str | None, *, after: tuple[str, str] | None, limit: int
    ) -> tuple[Sequence[DocumentView], tuple[str, str] | None]:
        """Return the documents in the order in which they are held."""
        self._look()
        mine = [each for each in self.document_views.get(tenant, []) if collection in (None, each.document.book_slug)]
        names = [_name_of(each) for each in mine]
        rest = mine[names.index(after) + 1 if after is not None else 0 :]
        return rest[:limit], _name_of(rest[limit - 1]) if len(rest) > limit else None

    async def chunks(self, tenant: str, collection: str, document: str, *, after: int, limit: int) -> ChunkPage | None:
        """Return what the test says."""
        self._look()
        return self.chunk_pages.get((tenant, collection, document))

    async def collection(self, tenant: str, collection: str) -> CollectionView | None:
        """Return the collection of that name."""
        self._look()
        mine = self.collection_views.get(tenant, [])
        return next((each for each in mine if each.book_slug == collection), None)

    async def collections(self, tenant: str, *, after: str | None, limit: int) -> tuple[Sequence[CollectionView], bool]:
        """Return the collections in the order in which they are held."""
        self._look()
        mine = [each for each in self.collection_views.get(tenant, []) if after is None or each.book_slug > after]
        return mine[:limit], len(mine) > limit

    async def embedder(self, name: str) -> str | None:
        """Return the id of what the test says."""
        self._look()
        return self.embedder_ids.get(name)

    async def figures(self, tenant: str) -> Figures:
        """Return what the test says."""
        self._look()
        return self.figures_of

    async def work(self) -> Mapping[Lane, LaneWork]:
        """Return what the test says; of other lanes that nothing waits and nothing was done."""
        self._look()
        return {lane: self.work_of.get(lane, NO_WORK) for lane in Lane}

    async def effect(self, tenant: str, place: RecordPlace, _command_id: str | None) -> Effect | None:
        """Return what the test says."""
        self._look()
        return self.effects.get(place)

    def _of(self, tenant: str) -> list[DocumentJobView]:
        self._look()
        return self.stored.get(tenant, [])

    def _look(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self.applied is not None:
            self.applied()


@dataclass
class MemorySearchStore:
    """Chunks that the test says are found, by the name of the embedder."""

    scopes_of: list[Scope] = field(default_factory=list)
    near: dict[str, LegAnswer | Exception] = field(default_factory=dict)
    worded: dict[str, Sequence[LegAnswer] | Exception] = field(default_factory=dict)
    chunk_rows: dict[tuple[str, int], ChunkRow] = field(default_factory=dict)
    failure: Exception | None = None
    asked: list[tuple[str, Sequence[str] | None]] = field(default_factory=list)
    filters: list[Filter | None] = field(default_factory=list)

    async def scopes(self, tenant: str, collections: Sequence[str] | None) -> Sequence[Scope]:
        """Return what the test says."""
        if self.failure is not None:
            raise self.failure
        self.asked.append((tenant, collections))
        return self.scopes_of

    async def nearest(self, _tenant: str, scope: Scope, _vector: Sequence[float], admitted: Filter | None) -> LegAnswer:
        """Return what the test says."""
        self.filters.append(admitted)
        found = self.near.get(scope.embedder, LegAnswer(found=[]))
        if isinstance(found, Exception):
            raise found
        return found

    async def matching(self, _tenant: str, scope: Scope, _query: str, _admitted: Filter | None) -> Sequence[LegAnswer]:
        """Return what the test says."""
        found = self.worded.get(scope.embedder, [])
        if isinstance(found, Exception):
            raise found
        return found

    async def rows(self, _tenant: str, scope: Scope, chunk_ids: Sequence[int]) -> Mapping[int, ChunkRow]:
        """Return those that are held."""
        return {each: row for each in chunk_ids if (row := self.chunk_rows.get((scope.embedder, each))) is not None}


@dataclass
class MemoryVectors:
    """Vectors of queries, all the same."""

    failure: Exception | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def vector(self, embedder_id: str, query: str) -> Sequence[float]:
        """Return a vector of two dimensions."""
        self.asked.append((embedder_id, query))
        if self.failure is not None:
            raise self.failure
        return [1.0, 0.0]


def commands(publisher: RecordingPublisher) -> list[Command]:
    """Return the commands for documents in the log."""
    return [
        COMMAND_CODEC.decode(record.value) for place, record in publisher.log if place.topic == DOCUMENT_COMMANDS.name
    ]


def job_view(job_id: str = JOB, **changes: Any) -> DocumentJobView:
    """Return a stored job that waits."""
    times = StageTimes(
        submitted_at=NOW, queued_at=NOW, begun_at=None, chunked_at=None, embedded_at=None, ended_at=None,
        queue_s=None, chunk_s=None, embed_s=None, store_s=None,
    )  # fmt: skip
    fields: dict[str, Any] = {
        "job_id": job_id,
        "document": DocumentName(book_slug="emma", chapter_index=7),
        "revision": 3,
        "kind": JobKind.PUT,
        "phase": Phase.SUBMITTED,
        "priority": 5,
        "lane": Lane.NORMAL,
        "cost": 100,
        "generation": 1,
        "attempts": 0,
        "max_retries": 3,
        "version": 1,
        "embedded": None,
        "error": None,
        "parent_job": None,
        "submitted_by": None,
        "times": times,
        "metadata": None,
        "filename": None,
        "content_type": None,
        "parts": None,
        "traceparent": None,
    }
    return DocumentJobView(**(fields | changes))


def document_view(chapter: int | str = 7, **changes: Any) -> DocumentView:
    """Return a live document."""
    fields: dict[str, Any] = {
        "document": DocumentName(book_slug="emma", chapter_index=chapter),
        "latest_revision": 3,
        "live_revision": 3,
        "live_job": JOB,
        "text_sha256": "00",
        "parser": "text",
        "chunker": "own",
        "characters": 100,
        "chunks": 1,
        "missing": None,
        "metadata": msgspec.Raw(b'{"year": 1815}'),
        "stored_at": NOW,
    }
    return DocumentView(**(fields | changes))


def chunk_page() -> ChunkPage:
    """Return the one chunk of a document."""
    return ChunkPage(
        document=DocumentName(book_slug="emma", chapter_index=7),
        revision=3,
        embedder=EMBEDDER,
        chunks=[ChunkView(chunk=0, span=(0, 4), heading=None, text="Emma")],
        next_cursor=None,
    )


def collection_view(book_slug: str = "emma", **changes: Any) -> CollectionView:
    """Return a collection of one document."""
    fields: dict[str, Any] = {
        "book_slug": book_slug,
        "embedder": EMBEDDER,
        "embedder_name": "hash",
        "building": None,
        "building_name": None,
        "building_failed": 0,
        "is_blocked": False,
        "language": "english",
        "documents": 1,
        "chunks": 1,
        "is_estimate": False,
        "created_at": NOW,
    }
    return CollectionView(**(fields | changes))


def _summary(view: DocumentJobView) -> DocumentJobSummary:
    return DocumentJobSummary(**{name: getattr(view, name) for name in DocumentJobSummary.__struct_fields__})


def _name_of(view: DocumentView) -> tuple[str, str]:
    return view.document.book_slug, str(view.document.chapter_index)
