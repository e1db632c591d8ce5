"""Feature hashing: the same everywhere, normalised, and alike where words are."""

import asyncio
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.documents.embedding.contract import EmbeddingFailed, FailureReason, TextKind, Vector
from schemas.documents.embedding.hashing import HashingEmbedder

WORDS = st.text(alphabet=st.characters(exclude_categories=("Cs",)), min_size=1, max_size=200)


async def embedded(*texts: str) -> list[Vector]:
    return [
        each
        for each in await HashingEmbedder().embed(texts, kind=TextKind.PASSAGE)
        if not isinstance(each, EmbeddingFailed)
    ]


@given(WORDS.filter(lambda text: text.strip()))
async def test_every_text_has_a_vector_of_length_one(text: str) -> None:
    [vector] = await embedded(text)
    assert vector.shape == (256,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@given(st.text(max_size=200))
def test_tokens_are_in_order_and_without_white_space(text: str) -> None:
    spans = HashingEmbedder().tokens(text)
    assert all(start < end for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert "".join(text[start:end] for start, end in spans) == "".join(text.split())


def test_another_process_gets_the_same() -> None:
    """Python's own hash() would differ."""
    program = (
        "import asyncio, sys; from schemas.documents.embedding.hashing import HashingEmbedder as H;"
        "[v] = asyncio.run(H().embed(['tide and gate'], kind='passage')); sys.stdout.write(v.tobytes().hex())"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    [vector] = asyncio.run(embedded("tide and gate"))
    assert vector.tobytes().hex() == other


async def test_texts_are_alike_as_far_as_they_share_words() -> None:
    one, near, far = await embedded("the tide is high today", "The tide is low today.", "eleven volumes of accounts")
    assert float(one @ near) > 0.5
    assert float(one @ far) < 0.3


async def test_a_text_of_too_many_words_is_refused_and_never_cut() -> None:
    fits, over = await HashingEmbedder().embed(["word " * 512, "word " * 513], kind=TextKind.QUERY)
    assert not isinstance(fits, EmbeddingFailed)
    assert isinstance(over, EmbeddingFailed)
    assert over.reason is FailureReason.TOO_LONG
