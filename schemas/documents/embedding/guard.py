"""The guard round every embedder: the one place that checks texts, results and vectors, and contains user code."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from schemas.documents.embedding.contract import (
    Embedded,
    Embedder,
    EmbedderAway,
    EmbeddingFailed,
    FailureReason,
    Span,
    TextKind,
    TokenizingFailed,
)

NORM_TOLERANCE = 1e-2
DETAIL_CHARACTERS_MAX = 200
CLOSE_TIMEOUT_S = 10.0


def checked(value: Any, *, dimensions: int, is_retryable: bool) -> Embedded:
    """Return *value* as a vector of float32, or what is wrong with it: its dimension, a number in it, or its norm."""
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as that
            vector = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        return _bad(f"a {type(value).__name__} instead of numbers", is_retryable=is_retryable)
    if vector.shape != (dimensions,):
        shape = " x ".join(map(str, vector.shape)) or "no"
        return _bad(f"{shape} dimensions instead of {dimensions}", is_retryable=is_retryable)
    if not np.isfinite(vector).all():
        return _bad("a number that is not finite", is_retryable=is_retryable)
    # In 64 bits: squares of large float32 values overflow.
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if abs(norm - 1) > NORM_TOLERANCE:
        return _bad(f"a norm of {norm:.4g} instead of 1", is_retryable=is_retryable)
    return vector


class GuardedEmbedder:
    """
    An embedder behind checks; see `Embedder`.

    Texts that no model can embed are failures before it sees them. *deadline_s* bounds a call of code that is not
    ours; code that never awaits is beyond it. None: the embedder bounds its calls itself.
    """

    def __init__(
        self, inner: Embedder, *, name: str, id: str, dimensions: int, tokens_max: int, is_local: bool,  # noqa: A002
        deadline_s: float | None = None,
    ) -> None:  # fmt: skip
        self._inner = inner
        self._name = name
        self._id = id
        self._dimensions = dimensions
        self._tokens_max = tokens_max
        self._is_local = is_local
        self._deadline_s = deadline_s

    @property
    def id(self) -> str:
        """See `Embedder`."""
        return self._id

    @property
    def name(self) -> str:
        """See `Embedder`."""
        return self._name

    @property
    def dimensions(self) -> int:
        """See `Embedder`."""
        return self._dimensions

    @property
    def tokens_max(self) -> int:
        """See `Embedder`."""
        return self._tokens_max

    @property
    def is_local(self) -> bool:
        """See `Embedder`."""
        return self._is_local

    def tokens(self, text: str) -> Sequence[Span]:
        """See `Embedder`."""
        try:
            spans = [(int(start), int(end)) for start, end in self._inner.tokens(text)]
        except Exception as error:  # whatever a custom embedder raises
            raise TokenizingFailed(f"embedder {self._name}: {shown(error)}") from error
        least = (0, 0)
        for start, end in spans:
            if start < least[0] or end < max(start, least[1]) or end > len(text):
                raise TokenizingFailed(f"embedder {self._name}: token {start}:{end} is out of order or of the text")
            least = (start, end)
        return spans

    async def embed(self, texts: Sequence[str], *, kind: TextKind) -> Sequence[Embedded]:
        """See `Embedder`."""
        results: list[Embedded | None] = [_fault(text) for text in texts]
        asked = [place for place, fault in enumerate(results) if fault is None]
        if asked:
            answered = await self._answered([texts[place] for place in asked], kind)
            for place, result in zip(asked, answered, strict=True):
                results[place] = result
        return [result for result in results if result is not None]

    async def close(self) -> None:
        """See `Embedder`."""
        # Nothing depends on it, and the others have to be closed as well.
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._inner.close()

    async def _answered(self, texts: Sequence[str], kind: TextKind) -> Sequence[Embedded]:
        try:
            async with asyncio.timeout(self._deadline_s) as deadline:
                answers: Any = await self._inner.embed(texts, kind=kind)
            answers = list(answers)
        except EmbedderAway:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a custom embedder raises is a failure of its texts
            detail = f"no result within {self._deadline_s} s" if deadline.expired() else shown(error)
            return [_failed(detail, is_retryable=True)] * len(texts)
        if len(answers) != len(texts):
            return [_failed(f"{len(answers)} results for {len(texts)} texts", is_retryable=False)] * len(texts)
        return [
            answer
            if isinstance(answer, EmbeddingFailed)
            # A local model gives the same vector again; a remote one may have been in trouble.
            else checked(answer, dimensions=self._dimensions, is_retryable=not self._is_local)
            for answer in answers
        ]


def shown(error: BaseException) -> str:
    """Return an error as a short text in printable characters."""
    text = f"{type(error).__name__}: {error}"
    return "".join(each if each.isprintable() else " " for each in text)[:DETAIL_CHARACTERS_MAX]


def _fault(text: str) -> EmbeddingFailed | None:
    if not text.strip():
        return EmbeddingFailed(reason=FailureReason.EMPTY, detail="the text is empty", is_retryable=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return EmbeddingFailed(
            reason=FailureReason.NO_UNICODE, detail="the text has lone surrogates", is_retryable=False
        )
    return None


def _bad(detail: str, *, is_retryable: bool) -> EmbeddingFailed:
    return EmbeddingFailed(
        reason=FailureReason.BAD_VECTOR, detail=f"the embedder gave {detail}", is_retryable=is_retryable
    )


def _failed(detail: str, *, is_retryable: bool) -> EmbeddingFailed:
    return EmbeddingFailed(reason=FailureReason.MODEL, detail=detail, is_retryable=is_retryable)
