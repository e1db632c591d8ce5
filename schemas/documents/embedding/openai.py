"""
An OpenAI-compatible server: `openai`, for models that run elsewhere.

Texts are sent in requests that are bounded in inputs and tokens; a request whose inputs are refused is halved until
the input at fault is found, so that the others get their vectors. Requests are paced by the provider's quotas, by a
limit on requests in flight that follows the server's load, and by what its Retry-After says.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

from schemas.documents.embedding.config import OpenAiSettings
from schemas.documents.embedding.contract import (
    Embedded,
    EmbedderAway,
    EmbeddingFailed,
    FailureReason,
    Span,
    TextKind,
    identity,
)
from schemas.documents.embedding.in_flight import InFlightLimit
from schemas.documents.embedding.openai_answers import AnswerInvalid, bytes_max, vectors_in
from schemas.documents.embedding.openai_requests import InputsRefused, NotConfigured, Post, ServerAway
from schemas.documents.embedding.quotas import ProviderQuota

NAME = "openai"

# An estimate, as the tokenizer is the server's: English has fewer tokens than that, other scripts about as many.
_TOKEN = re.compile(r"[A-Za-z0-9]{1,4}|[^\sA-Za-z0-9]")


class OpenAiEmbedder:
    """An embedder at a server; see `Embedder`. Its vectors are normalised here, since not every server does it."""

    name = NAME
    is_local = False

    def __init__(
        self,
        settings: OpenAiSettings,
        post: Post,
        *,
        clock_s: Callable[[], float] = monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Send by *post*, which `close` closes."""
        self._settings = settings
        self._post = post
        self._clock_s = clock_s
        self._pause = pause
        self._prefixes = {TextKind.PASSAGE: settings.passage_prefix, TextKind.QUERY: settings.query_prefix}
        self._limit = InFlightLimit(settings.in_flight_max)
        self._ended = asyncio.Event()  # a request has ended since a turn was last looked for
        self._requests = ProviderQuota(settings.requests_per_min)
        self._tokens = ProviderQuota(settings.tokens_per_min)
        self._request_tokens_max = min(settings.request_tokens_max, self._tokens.burst or settings.request_tokens_max)
        self._resumes_at_s = float("-inf")  # by the server's Retry-After
        self.dimensions = settings.dimensions
        self.tokens_max = settings.tokens_max
        # Without the address: a model may move. That it is still the same one is for its fingerprint to show.
        self.id = identity(
            api="openai",
            model=settings.model,
            normalisation="l2",
            passage_prefix=settings.passage_prefix,
            query_prefix=settings.query_prefix,
            tokens_max=settings.tokens_max,
            dimensions=settings.dimensions,
        )

    @staticmethod
    def tokens(text: str) -> Sequence[Span]:
        """See `Embedder`: an estimate."""
        return [found.span() for found in _TOKEN.finditer(text)]

    async def embed(self, texts: Sequence[str], *, kind: TextKind) -> Sequence[Embedded]:
        """See `Embedder`."""
        prefixed = [self._prefixes[kind] + text for text in texts]
        counts = [len(self.tokens(text)) for text in texts]
        results: list[Embedded] = [_too_long(count, self.tokens_max) for count in counts]
        fitting = [place for place, count in enumerate(counts) if count <= self.tokens_max]
        parts = list(_parts(fitting, counts, inputs_max=self._settings.inputs_max, tokens_max=self._request_tokens_max))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._embed([prefixed[place] for place in part], [counts[place] for place in part]))
                for part in parts
            ]
        for part, task in zip(parts, tasks, strict=True):
            for place, result in zip(part, task.result(), strict=True):
                results[place] = result
        self._raise_if_away(results)
        return results

    async def close(self) -> None:
        """See `Embedder`."""
        await self._post.close()

    def _raise_if_away(self, results: Sequence[Embedded]) -> None:
        failures = [result for result in results if isinstance(result, EmbeddingFailed)]
        away = [failure for failure in failures if failure.reason is FailureReason.AWAY]
        if away and len(failures) == len(results):
            now_s = self._clock_s()
            wait_s = max(self._resumes_at_s - now_s, self._requests.backlog_s(now_s), self._tokens.backlog_s(now_s))
            raise EmbedderAway(away[0].detail, retry_after_s=wait_s if wait_s > 0 else None)

    async def _embed(self, texts: Sequence[str], counts: Sequence[int]) -> Sequence[Embedded]:
        """Embed what fits into one request."""
        try:
            return await self._ask(texts, tokens_count=sum(counts))
        except InputsRefused as refused:
            if len(texts) == 1:
                return [EmbeddingFailed(reason=FailureReason.REFUSED, detail=str(refused), is_retryable=False)]
            half = len(texts) // 2
            first = await self._embed(texts[:half], counts[:half])
            return [*first, *await self._embed(texts[half:], counts[half:])]
        except NotConfigured as fault:
            failure = EmbeddingFailed(reason=FailureReason.CONFIGURATION, detail=str(fault), is_retryable=False)
        except AnswerInvalid as fault:
            failure = EmbeddingFailed(reason=FailureReason.BAD_ANSWER, detail=str(fault), is_retryable=True)
        except ServerAway as away:
            failure = EmbeddingFailed(reason=FailureReason.AWAY, detail=str(away), is_retryable=True)
        return [failure] * len(texts)

    async def _ask(self, texts: Sequence[str], *, tokens_count: int) -> Sequence[Embedded]:
        settings = self._settings
        document: dict[str, Any] = {
            "model": settings.model,
            "input": list(texts),
            "encoding_format": str(settings.encoding),
        }
        if settings.sends_dimensions:
            document["dimensions"] = settings.dimensions
        async with self._turn(tokens_count):
            begun_at_s = self._clock_s()
            try:
                body = await self._post(
                    document, answer_bytes_max=bytes_max(inputs_count=len(texts), dimensions=self.dimensions)
                )
            except ServerAway as away:
                now_s = self._clock_s()
                self._limit.overloaded(begun_at_s=begun_at_s, now_s=now_s)
                if away.retry_after_s is not None:
                    self._resumes_at_s = max(self._resumes_at_s, now_s + away.retry_after_s)
                raise
            vectors = vectors_in(body, inputs_count=len(texts))
            self._limit.succeeded()
            return vectors

    @asynccontextmanager
    async def _turn(self, tokens_count: int) -> AsyncIterator[None]:
        """Wait until one more request may be sent, and count it as in flight. Raises ServerAway if that takes long."""
        self._refuse_while_paused()
        try:
            async with asyncio.timeout(self._settings.wait_s):
                while not self._limit.has_room:
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError as error:
            raise ServerAway(
                f"no request could be sent for {self._settings.wait_s:g} s: others are answered late"
            ) from error
        self._limit.begin()
        try:
            await self._pay(tokens_count)
            self._refuse_while_paused()  # it may have begun meanwhile
            yield
        finally:
            self._limit.end()
            self._ended.set()

    async def _pay(self, tokens_count: int) -> None:
        now_s = self._clock_s()
        backlog_s = max(self._requests.backlog_s(now_s), self._tokens.backlog_s(now_s))
        if backlog_s > self._settings.wait_s:
            raise ServerAway(f"the provider's quota is spent for {backlog_s:.0f} s", retry_after_s=backlog_s)
        wait_s = max(self._requests.reserve(1, now_s), self._tokens.reserve(tokens_count, now_s))
        if wait_s > 0:
            await self._pause(wait_s)

    def _refuse_while_paused(self) -> None:
        wait_s = self._resumes_at_s - self._clock_s()
        if wait_s > 0:
            raise ServerAway(f"the server asked to wait for {wait_s:.0f} s more", retry_after_s=wait_s)


def _too_long(count: int, tokens_max: float) -> EmbeddingFailed:
    detail = f"about {count} tokens, and {tokens_max} are allowed"
    return EmbeddingFailed(reason=FailureReason.TOO_LONG, detail=detail, is_retryable=False)


def _parts(
    places: Sequence[int], counts: Sequence[int], *, inputs_max: int, tokens_max: float
) -> Iterator[Sequence[int]]:
    """Yield *places* in requests of at most *inputs_max* and *tokens_max*; one larger text is a request of its own."""
    part: list[int] = []
    tokens_count = 0
    for place in places:
        if part and (len(part) == inputs_max or tokens_count + counts[place] > tokens_max):
            yield part
            part, tokens_count = [], 0
        part.append(place)
        tokens_count += counts[place]
    if part:
        yield part
