"""Vectors of queries: embedders that are loaded with the first search, and a bound on those who wait for them."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from time import monotonic
from typing import Protocol, Self

import structlog

from gateway.documents.search.legs import LegFailed
from gateway.errors import QueueFull
from schemas.documents.embedding.contract import Embedder, EmbedderAway, EmbeddingFailed, TextKind
from schemas.process.settings import SettingsInvalid

TIMEOUT_S = 5.0  # the first search loads the model within it
WAITING_MAX = 16
RELOAD_AFTER_S = 30.0

log = structlog.get_logger()


class LoadedEmbedders(Protocol):
    """The embedders of a process."""

    def by_id(self, id: str) -> Embedder | None:  # noqa: A002
        """Return the embedder of a collection; None if this process does not have it."""


class QueryVectors:
    """The vectors of queries; an async context manager that loads nothing before the first query."""

    def __init__(
        self,
        opening: Callable[[], AbstractAsyncContextManager[LoadedEmbedders]],
        *,
        waiting_max: int = WAITING_MAX,
        timeout_s: float = TIMEOUT_S,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        """Load what *opening* opens."""
        self._opening = opening
        self._waiting_max = waiting_max
        self._timeout_s = timeout_s
        self._clock_s = clock_s
        self._waiting = 0
        self._stack = AsyncExitStack()
        self._loading: asyncio.Task[LoadedEmbedders] | None = None
        self._failed_at_s = float("-inf")

    async def __aenter__(self) -> Self:
        """Load nothing yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close what was loaded."""
        if self._loading is not None:
            await asyncio.gather(self._loading, return_exceptions=True)
        await self._stack.aclose()

    async def vector(self, embedder_id: str, query: str) -> Sequence[float]:
        """
        Return the vector of *query* by one embedder.

        Raises:
            LegFailed: this gateway does not have the embedder, it is away, or the query cannot be embedded.
            QueueFull: too many queries wait. Answer 429.
        """
        if self._waiting >= self._waiting_max:
            raise QueueFull("too many searches wait for the embedder")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._vector(embedder_id, query)
        except TimeoutError:
            raise LegFailed(f"the query was not embedded within {self._timeout_s:g} s") from None
        finally:
            self._waiting -= 1

    async def _vector(self, embedder_id: str, query: str) -> Sequence[float]:
        embedder = (await self._loaded()).by_id(embedder_id)
        if embedder is None:
            raise LegFailed(
                "this gateway does not have the embedder of the collection: TIDEGATE_EMBEDDERS names others"
            )
        try:
            [answer] = await embedder.embed([query], kind=TextKind.QUERY)
        except EmbedderAway as error:
            raise LegFailed(f"the embedder {embedder.name} is away") from error
        if isinstance(answer, EmbeddingFailed):
            raise LegFailed(f"the embedder {embedder.name} cannot embed the query: {answer.reason}")
        vector: Sequence[float] = answer.tolist()
        return vector

    async def _loaded(self) -> LoadedEmbedders:
        if self._loading is None:
            if self._clock_s() - self._failed_at_s < RELOAD_AFTER_S:
                raise LegFailed("the embedders of this gateway cannot be loaded")
            self._loading = asyncio.create_task(self._stack.enter_async_context(self._opening()))
        loading = self._loading
        try:
            return await asyncio.shield(loading)  # a search that is given up does not end it for the others
        except SettingsInvalid as error:
            if self._loading is loading:
                log.error("embedders not loaded", error=str(error))  # noqa: TRY400  the text says what to do
                self._loading, self._failed_at_s = None, self._clock_s()
            raise LegFailed("the embedders of this gateway cannot be loaded") from error
