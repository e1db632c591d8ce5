"""An embedder of one's own as a worker: it is given texts as `chunks` and returns their vectors as `embeddings`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas.documents.embedding.contract import (
    Embedded,
    EmbeddingFailed,
    FailureReason,
    Span,
    TextKind,
    identity,
)
from schemas.documents.embedding.hashing import HashingEmbedder
from schemas.documents.workers import WorkerFailed, WorkerThread

TOKENS_MAX = 512
ENTRY_POINTS = "tidegate.embed"


class WorkerEmbedder:
    """`Embedder` by a worker; texts are cut by words, since its tokens are not known."""

    name = "worker"
    tokens_max = TOKENS_MAX
    is_local = True

    def __init__(self, worker: WorkerThread, *, dimensions: int) -> None:
        """Embed by *worker*, whose vectors have *dimensions* numbers; their length does not matter."""
        self._worker = worker
        self._words = HashingEmbedder()
        self.dimensions = dimensions
        self.id = identity(worker=worker.name, dimensions=dimensions)

    def tokens(self, text: str) -> Sequence[Span]:
        """See `Embedder.tokens`."""
        return self._words.tokens(text)

    async def embed(self, texts: Sequence[str], *, kind: TextKind) -> Sequence[Embedded]:
        """See `Embedder.embed`."""
        item = {"id": "", "text": "\n\n".join(texts), "chunks": list(texts), "kind": kind.value}
        try:
            answer = (await self._worker.call(item)).get("embeddings")
            vectors = _vectors(answer, len(texts), self.dimensions)
        except WorkerFailed as error:
            failed = EmbeddingFailed(reason=FailureReason.MODEL, detail=str(error), is_retryable=False)
            return [failed] * len(texts)
        return vectors

    async def close(self) -> None:
        """See `Embedder.close`."""
        await self._worker.close()


def _vectors(answer: Any, count: int, dimensions: int) -> Sequence[Embedded]:
    """Return what a worker answered as vectors of length 1. Raises WorkerFailed."""
    try:
        found = np.asarray(answer, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise WorkerFailed(f"`embeddings` is no list of lists of numbers: {error}") from error
    if found.shape != (count, dimensions):
        raise WorkerFailed(f"`embeddings` has the shape {found.shape}, not {(count, dimensions)}")
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths)) or np.any(lengths == 0):
        raise WorkerFailed("a vector of `embeddings` is not finite, or has no direction")
    return list(found / lengths)
