"""
Feature hashing: `hash`, an embedder without a model, for tests and for measuring the pipeline's own limit.

It knows words, not what they mean: texts are alike as far as they share words. Nothing is trained or downloaded, and
the vectors are the same in every process and on every machine.
"""

import asyncio
import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from schemas.documents.embedding.contract import (
    Embedded,
    EmbeddingFailed,
    FailureReason,
    Span,
    TextKind,
    Vector,
    identity,
)

NAME = "hash"
DIMENSIONS = 256
TOKENS_MAX = 512
ALGORITHM = "signed blake2b of folded words, counts damped by log"  # part of the id: change it with the code
WORDS_KEPT = 65_536  # of words whose place is remembered

_TOKEN = re.compile(r"\w+|[^\w\s]")


class HashingEmbedder:
    """An embedder by feature hashing; see `Embedder`."""

    name = NAME
    dimensions = DIMENSIONS
    tokens_max = TOKENS_MAX
    is_local = True
    id = identity(algorithm=ALGORITHM, tokens=_TOKEN.pattern, tokens_max=TOKENS_MAX, dimensions=DIMENSIONS)

    def tokens(self, text: str) -> Sequence[Span]:
        """See `Embedder`: words, and each other character but white space by itself."""
        return [found.span() for found in _TOKEN.finditer(text)]

    async def embed(self, texts: Sequence[str], *, kind: TextKind) -> Sequence[Embedded]:  # noqa: ARG002  # one for both
        """See `Embedder`. A text takes some 100 us, so no thread is worth it; between two the loop goes on."""
        results: list[Embedded] = []
        for text in texts:
            results.append(_embedded(text))
            await asyncio.sleep(0)
        return results

    async def close(self) -> None:
        """See `Embedder`: there is nothing to release."""


def _embedded(text: str) -> Embedded:
    # Folded after they are found: folding may add characters, and `tokens` counts those of the text.
    words = [word.casefold() for word in _TOKEN.findall(text)]
    if len(words) > TOKENS_MAX:
        detail = f"{len(words)} words, and {TOKENS_MAX} are allowed"
        return EmbeddingFailed(reason=FailureReason.TOO_LONG, detail=detail, is_retryable=False)
    vector = _hashed(words)
    if not vector.any():  # words of opposite signs share a place: as rare as it is possible
        vector = _hashed([text])
    return vector / np.linalg.norm(vector)


def _hashed(words: Sequence[str]) -> Vector:
    places, signs = zip(*map(_feature, words), strict=True)
    counts = np.bincount(places, weights=signs, minlength=DIMENSIONS)
    return (np.sign(counts) * np.log1p(np.abs(counts))).astype(np.float32)


@lru_cache(maxsize=WORDS_KEPT)
def _feature(word: str) -> tuple[int, float]:
    # Not Python's hash(), which differs from process to process.
    digest = blake2b(word.encode(), digest_size=4).digest()
    return int.from_bytes(digest[:2]) % DIMENSIONS, 1.0 if digest[2] & 1 else -1.0
