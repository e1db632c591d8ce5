"""Embedders for tests: one that does as it is told."""

import asyncio
from collections.abc import Sequence

from schemas.documents.embedding.contract import (
    Embedded,
    EmbedderAway,
    EmbeddingFailed,
    FailureReason,
    Span,
    TextKind,
)
from schemas.documents.embedding.hashing import HashingEmbedder


class ToldEmbedder:
    """An embedder that hashes, and is away or refuses texts when a test says so."""

    def __init__(self, name: str = "told", *, id: str = "ab" * 32) -> None:  # noqa: A002
        self._inner = HashingEmbedder()
        self.name = name
        self.id = id
        self.dimensions = self._inner.dimensions
        self.tokens_max = self._inner.tokens_max
        self.is_local = True
        self.is_away = False
        self.refuses: str | None = None  # texts that contain it
        self.holds: asyncio.Event | None = None  # waited for before each answer
        self.embedded: list[str] = []

    def tokens(self, text: str) -> Sequence[Span]:
        """See `Embedder.tokens`."""
        return self._inner.tokens(text)

    async def embed(self, texts: Sequence[str], *, kind: TextKind) -> Sequence[Embedded]:
        """See `Embedder.embed`."""
        if self.holds is not None:
            await self.holds.wait()
        if self.is_away:
            raise EmbedderAway("told to be away")
        self.embedded += texts
        answers = await self._inner.embed(texts, kind=kind)
        refused = EmbeddingFailed(reason=FailureReason.REFUSED, detail="told to refuse", is_retryable=False)
        return [
            refused if self.refuses is not None and self.refuses in text else answer
            for text, answer in zip(texts, answers, strict=True)
        ]

    async def close(self) -> None:
        """See `Embedder.close`."""
