"""A search: its legs beside each other, what they found in one order, and what is shown of it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

import msgspec

from gateway.documents.names import shown_chapter
from gateway.documents.parsing.searches import PreparedSearch, SearchMode
from gateway.documents.search.fusion import Fused, Place, best_of_documents, fuse
from gateway.documents.search.legs import ChunkRow, LegAnswer, LegFailed, Scope, SearchStore
from gateway.documents.views import DocumentName, LegHit, SearchAnswer, SearchHit
from gateway.errors import QueueFull, StoreUnavailable
from schemas.documents.telemetry import SEARCH_DURATION, SEARCH_FAILURES, SEARCH_SHORT
from schemas.process.telemetry import Telemetry

SEARCHES_MAX = 32  # that run or wait


class Vectors(Protocol):
    """The vectors of queries; see `QueryVectors`."""

    async def vector(self, embedder_id: str, query: str) -> Sequence[float]:
        """Return the vector of *query* by one embedder. Raises LegFailed or QueueFull."""


@dataclass(slots=True)
class _Leg:
    """The answers of one leg, by embedder; and why it has none of some."""

    name: str
    answers: dict[str, Sequence[LegAnswer]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    refusal: QueueFull | None = None  # too many wait for an embedder


class Searches:
    """The searches of a gateway; few run at once."""

    def __init__(
        self,
        store: SearchStore,
        vectors: Vectors,
        telemetry: Telemetry,
        *,
        searches_max: int = SEARCHES_MAX,
        clock_s: Callable[[], float] = perf_counter,
    ) -> None:
        """Search in *store*, for what is near to the *vectors* of queries."""
        self._store = store
        self._vectors = vectors
        self._telemetry = telemetry
        self._searches_max = searches_max
        self._clock_s = clock_s
        self._running = 0

    async def search(self, tenant: str, asked: PreparedSearch) -> SearchAnswer:
        """
        Return the best hits.

        Raises:
            QueueFull: too many searches run, or wait for an embedder.
            StoreUnavailable: no leg has an answer.
            Invalid: see `SearchStore.scopes`.
        """
        if self._running >= self._searches_max:
            raise QueueFull("too many searches are running")
        self._running += 1
        try:
            return await self._search(tenant, asked)
        finally:
            self._running -= 1

    async def _search(self, tenant: str, asked: PreparedSearch) -> SearchAnswer:
        started_s = self._clock_s()
        scopes = await self._store.scopes(tenant, asked.collections)
        vector, words = _Leg("vector"), _Leg("text")
        running = []
        if asked.mode is not SearchMode.TEXT:
            running.append(self._run(vector, scopes, lambda scope: self._nearest(tenant, scope, asked)))
        if asked.mode is not SearchMode.VECTOR:
            running.append(
                self._run(words, scopes, lambda scope: self._store.matching(tenant, scope, asked.query, asked.filter))
            )
        await asyncio.gather(*running)
        if vector.refusal is not None:
            raise vector.refusal
        failures = [f"{leg.name}: {failure}" for leg in (vector, words) for failure in leg.failures]
        if failures and not vector.answers and not words.answers:
            raise StoreUnavailable("; ".join(failures))
        fused = fuse(vector.answers, words.answers)
        best = (best_of_documents(fused) if asked.by_document else fused)[: asked.hits_max]
        complete = all(answer.complete for answers in vector.answers.values() for answer in answers)
        if not complete and len(best) < asked.hits_max:
            self._telemetry[SEARCH_SHORT].inc()
        return SearchAnswer(
            hits=await self._shown(tenant, scopes, best),
            embedders=[scope.embedder for scope in scopes],
            complete=complete,
            degraded=failures,
            took_ms=round((self._clock_s() - started_s) * 1000, 3),
        )

    async def _nearest(self, tenant: str, scope: Scope, asked: PreparedSearch) -> Sequence[LegAnswer]:
        vector = await self._vectors.vector(scope.embedder, asked.query)
        return [await self._store.nearest(tenant, scope, vector, asked.filter)]

    async def _run(
        self, leg: _Leg, scopes: Sequence[Scope], look: Callable[[Scope], Awaitable[Sequence[LegAnswer]]]
    ) -> None:
        """Search scope by scope, on one connection at a time; what fails leaves the others."""
        started_s = self._clock_s()
        for scope in scopes:
            try:
                leg.answers[scope.embedder] = await look(scope)
            except (LegFailed, StoreUnavailable) as failure:
                leg.failures.append(str(failure))
            except QueueFull as refusal:  # held until the other leg has ended: no work is left behind
                leg.refusal = refusal
        if leg.failures:
            self._telemetry[SEARCH_FAILURES].labels(leg.name).inc()
        self._telemetry[SEARCH_DURATION].labels(leg.name).observe(self._clock_s() - started_s)

    async def _shown(self, tenant: str, scopes: Sequence[Scope], best: Sequence[Fused]) -> Sequence[SearchHit]:
        rows: dict[tuple[str, int], ChunkRow] = {}
        for scope in scopes:
            chunk_ids = [each.chunk.chunk_id for each in best if each.embedder == scope.embedder]
            if not chunk_ids:
                continue
            try:
                found: Mapping[int, ChunkRow] = await self._store.rows(tenant, scope, chunk_ids)
            except LegFailed as failure:
                raise StoreUnavailable(f"what was found cannot be read: {failure}") from failure
            rows |= {(scope.embedder, chunk_id): row for chunk_id, row in found.items()}
        shown = [(each, rows.get((each.embedder, each.chunk.chunk_id))) for each in best]
        return [_hit(each, row) for each, row in shown if row is not None]


def _hit(fused: Fused, row: ChunkRow) -> SearchHit:
    return SearchHit(
        document=DocumentName(book_slug=fused.chunk.collection, chapter_index=shown_chapter(fused.chunk.document)),
        revision=row.revision,
        chunk=row.ordinal,
        span=(row.start, row.end),
        heading=row.heading,
        text=row.text,
        score=fused.score,
        vector=_place(fused.vector),
        words=_place(fused.words),
        metadata=None if row.metadata is None else msgspec.Raw(row.metadata),
    )


def _place(place: Place | None) -> LegHit | None:
    return None if place is None else LegHit(rank=place.rank, score=place.score)
