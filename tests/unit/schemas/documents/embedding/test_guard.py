"""The guard: whatever an embedder does, a call ends in checked vectors, failures that say why, or `EmbedderAway`."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.documents.embedding.contract import (
    EmbedderAway,
    EmbeddingFailed,
    FailureReason,
    Span,
    TextKind,
    TokenizingFailed,
)
from schemas.documents.embedding.guard import GuardedEmbedder, checked

UNIT = [0.6, 0.8, 0.0]


class Custom:
    """An embedder that does as a test says, and keeps what it was given."""

    name = "custom"
    id = "0" * 64
    dimensions = 3
    tokens_max = 10
    is_local = True

    def __init__(self, answer: Callable[[Sequence[str]], Any] = lambda texts: [UNIT] * len(texts)) -> None:
        self.answer = answer
        self.given: list[str] = []
        self.spans: Callable[[str], Any] = lambda text: [(0, len(text))]
        self.closed: Callable[[], None] = lambda: None

    def tokens(self, text: str) -> Sequence[Span]:
        spans: Sequence[Span] = self.spans(text)
        return spans

    async def embed(self, texts: Sequence[str], *, kind: TextKind) -> Any:
        self.given += texts
        return self.answer(texts)

    async def close(self) -> None:
        self.closed()


def guarded(inner: Any, *, is_local: bool = True, deadline_s: float | None = 10.0) -> GuardedEmbedder:
    return GuardedEmbedder(
        inner, name="custom", id="0" * 64, dimensions=3, tokens_max=10, is_local=is_local, deadline_s=deadline_s
    )


def raises(error: BaseException) -> Callable[..., Any]:
    def answer(*_: object) -> Any:
        raise error

    return answer


async def reason_of(inner: Any, text: str = "text") -> tuple[FailureReason, str]:
    [result] = await guarded(inner).embed([text], kind=TextKind.PASSAGE)
    assert isinstance(result, EmbeddingFailed)
    return result.reason, result.detail


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ([1.0, 0.0], "2 dimensions instead of 3"),
        ([[0.6, 0.8, 0.0]], "1 x 3 dimensions instead of 3"),
        (1.0, "no dimensions instead of 3"),
        ([0.6, 0.8, math.nan], "not finite"),
        ([0.6, math.inf, 0.0], "not finite"),
        ([1e39, 0.0, 0.0], "not finite"),
        ([0.0, 0.0, 0.0], "a norm of 0 instead of 1"),
        ([0.6, 0.7, 0.0], "a norm of 0.922 instead of 1"),
        ([3e38, 3e38, 0.0], "a norm of 4.243e+38 instead of 1"),
        (None, "no dimensions instead of 3"),
        ("abc", "a str instead of numbers"),
        ([1.0, [2.0], 3.0], "a list instead of numbers"),
        ([10**400, 0, 0], "instead of numbers"),
        ({"a": 1}, "a dict instead of numbers"),
    ],
)
def test_a_vector_that_is_none_is_a_failure_that_says_why(value: Any, detail: str) -> None:
    found = checked(value, dimensions=3, is_retryable=False)
    assert isinstance(found, EmbeddingFailed)
    assert found.reason is FailureReason.BAD_VECTOR
    assert detail in found.detail


@pytest.mark.parametrize(
    "value", [UNIT, tuple(UNIT), np.array(UNIT), np.array(UNIT, dtype=np.float16), [0.601, 0.801, 0]]
)
async def test_a_vector_is_float32_whatever_it_comes_as(value: Any) -> None:
    [found] = await guarded(Custom(lambda _texts: [value])).embed(["text"], kind=TextKind.PASSAGE)
    assert not isinstance(found, EmbeddingFailed)
    assert found.dtype == np.float32
    assert np.isfinite(found.astype(np.float16)).all()


async def test_one_bad_vector_leaves_the_others() -> None:
    found = await guarded(Custom(lambda _texts: [UNIT, [1.0], UNIT])).embed(["a", "b", "c"], kind=TextKind.PASSAGE)
    assert [isinstance(each, EmbeddingFailed) for each in found] == [False, True, False]


async def test_a_local_model_that_gave_a_bad_vector_is_not_asked_again_and_a_remote_one_is() -> None:
    for is_local in (True, False):
        [found] = await guarded(Custom(lambda _texts: [[1.0]]), is_local=is_local).embed(["a"], kind=TextKind.PASSAGE)
        assert isinstance(found, EmbeddingFailed)
        assert found.is_retryable is not is_local


async def test_texts_without_content_are_never_given_to_an_embedder() -> None:
    inner = Custom()
    found = await guarded(inner).embed(["a", " \n", "", "b\ud800", "c"], kind=TextKind.PASSAGE)
    assert inner.given == ["a", "c"]
    reasons = [each.reason if isinstance(each, EmbeddingFailed) else None for each in found]
    assert reasons == [None, FailureReason.EMPTY, FailureReason.EMPTY, FailureReason.NO_UNICODE, None]
    assert await guarded(inner).embed([], kind=TextKind.PASSAGE) == []


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (raises(ValueError("no\nweights")), "ValueError: no weights"),
        (raises(TimeoutError("own")), "TimeoutError: own"),
        (lambda texts: [UNIT] * (len(texts) + 1), "2 results for 1 texts"),
        (lambda _texts: None, "TypeError"),
        (lambda _texts: 3, "TypeError"),
    ],
)
async def test_an_error_of_an_embedder_is_a_failure_of_its_texts(answer: Any, detail: str) -> None:
    reason, text = await reason_of(Custom(answer))
    assert reason is FailureReason.MODEL
    assert detail in text


async def test_an_error_without_a_deadline_is_a_failure_too() -> None:
    [found] = await guarded(Custom(raises(TimeoutError("own"))), deadline_s=None).embed(["a"], kind=TextKind.PASSAGE)
    assert isinstance(found, EmbeddingFailed)


async def test_an_embedder_that_never_answers_is_given_up() -> None:
    class Hanging(Custom):
        async def embed(self, texts: Sequence[str], *, kind: TextKind) -> Any:
            await asyncio.Event().wait()

    [found] = await guarded(Hanging(), deadline_s=0.01).embed(["a"], kind=TextKind.PASSAGE)
    assert isinstance(found, EmbeddingFailed)
    assert found.is_retryable
    assert found.detail == "no result within 0.01 s"


async def test_an_embedder_that_is_away_is_away() -> None:
    with pytest.raises(EmbedderAway) as caught:
        await guarded(Custom(raises(EmbedderAway("later", retry_after_s=3.0)))).embed(["a"], kind=TextKind.PASSAGE)
    assert caught.value.retry_after_s == 3.0


@pytest.mark.parametrize(
    "spans",
    [[(0, 5)], [(-1, 2)], [(2, 1)], [(2, 3), (1, 4)], [(0, 3), (1, 2)], [(0,)], None, ["ab"], [(0, "x")]],
)
def test_tokens_that_are_not_of_the_text_are_refused(spans: Any) -> None:
    inner = Custom()
    inner.spans = lambda _text: spans
    with pytest.raises(TokenizingFailed, match="embedder custom"):
        guarded(inner).tokens("text")


def test_tokens_may_share_a_place() -> None:
    inner = Custom()
    inner.spans = lambda _text: [(0, 1), (0, 1), (1, 4)]
    assert guarded(inner).tokens("text") == [(0, 1), (0, 1), (1, 4)]


async def test_an_error_at_the_end_is_no_error() -> None:
    inner = Custom()
    inner.closed = raises(RuntimeError("closed twice"))
    await guarded(inner).close()


@given(st.lists(st.floats(width=32), max_size=5))
def test_any_list_of_numbers_is_a_vector_of_length_one_or_a_failure(values: list[float]) -> None:
    found = checked(values, dimensions=3, is_retryable=False)
    if not isinstance(found, EmbeddingFailed):
        assert len(values) == 3
        assert np.linalg.norm(found.astype(np.float64)) == pytest.approx(1, abs=1.01e-2)
