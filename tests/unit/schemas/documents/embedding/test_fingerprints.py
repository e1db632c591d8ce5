"""Fingerprints: an embedder whose vectors point elsewhere is noticed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.documents.embedding.contract import Embedded, EmbedderAway, EmbeddingFailed, FailureReason, TextKind
from schemas.documents.embedding.fingerprints import CANONICAL_TEXTS, agrees, fingerprint
from schemas.documents.embedding.hashing import HashingEmbedder
from schemas.process.settings import SettingsInvalid


@dataclass
class Failing(HashingEmbedder):
    """Fails for the second text."""

    is_retryable: bool
    asked: list[str] = field(default_factory=list)

    async def embed(self, texts: Sequence[str], *, kind: TextKind) -> Sequence[Embedded]:
        self.asked += texts
        found = list(await super().embed(texts, kind=kind))
        found[1] = EmbeddingFailed(reason=FailureReason.MODEL, detail="no weights", is_retryable=self.is_retryable)
        return found


def turned(vector: np.ndarray, cosine: float) -> np.ndarray:
    """Return a vector of length 1 at a given cosine to *vector*, which has length 1."""
    other = np.zeros_like(vector)
    other[0] = 1.0
    across = other - (other @ vector) * vector
    across /= np.linalg.norm(across)
    return np.asarray(cosine * vector + np.sqrt(1 - cosine**2) * across)


async def test_an_embedder_agrees_with_itself() -> None:
    one, other = await fingerprint(HashingEmbedder()), await fingerprint(HashingEmbedder())
    assert len(one) == 3 * 256 * 4
    assert agrees(one, other)


@pytest.mark.parametrize(("cosine", "is_same"), [(0.9999, True), (0.9992, True), (0.9988, False), (0.986, False)])
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_one_vector_that_points_elsewhere_is_enough(cosine: float, is_same: bool, place: int) -> None:
    """0.986 is what another int8 export of MiniLM has."""
    stored = await fingerprint(HashingEmbedder())
    vectors = np.frombuffer(stored, dtype="<f4").reshape(3, -1).astype(np.float64).copy()
    vectors[place] = turned(vectors[place] / np.linalg.norm(vectors[place]), cosine)
    assert agrees(stored, vectors.astype("<f4").tobytes()) is is_same


@given(st.binary(max_size=48), st.binary(max_size=48))
def test_any_bytes_agree_or_not(one: bytes, other: bytes) -> None:
    assert agrees(one, other) == agrees(other, one)


def test_what_is_empty_or_has_no_direction_agrees_with_nothing() -> None:
    assert not agrees(b"", b"")
    assert not agrees(bytes(48), bytes(48))
    assert not agrees(b"\xff" * 48, b"\xff" * 48)
    assert not agrees(bytes(48), bytes(24))


async def test_an_embedder_that_fails_for_good_cannot_be_used() -> None:
    with pytest.raises(SettingsInvalid, match="embedder hash cannot embed a test text: no weights"):
        await fingerprint(Failing(is_retryable=False))


async def test_an_embedder_that_fails_for_now_is_away() -> None:
    with pytest.raises(EmbedderAway):
        await fingerprint(Failing(is_retryable=True))


def test_the_texts_are_those_of_every_stored_fingerprint() -> None:
    assert len(CANONICAL_TEXTS) == 3
    assert len(HashingEmbedder().tokens(CANONICAL_TEXTS[1])) > 128
