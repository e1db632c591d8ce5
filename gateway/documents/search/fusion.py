"""Reciprocal rank fusion: what several legs found, in one order. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.documents.search.legs import Found, LegAnswer

# Small, so that a chunk which one leg ranks first comes before one that both rank far down; 60, as is usual, is meant
# for fusing many lists. Of 1, 3, 5, 10, 20 and 60, the smaller ones rank answers higher in our evaluation.
RANK_CONSTANT = 3


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a chunk in one leg."""

    rank: int  # from 1
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """A chunk that at least one leg found."""

    embedder: str
    chunk: Found
    score: float
    vector: Place | None
    words: Place | None


def fuse(vector: Mapping[str, Sequence[LegAnswer]], words: Mapping[str, Sequence[LegAnswer]]) -> Sequence[Fused]:
    """
    Return the chunks of all answers, by embedder, the best first; ties by the id of the chunk, then by embedder.

    Scores of different embedders or configurations cannot be compared: each answer counts by its own ranks.
    """
    near, worded = _places(vector), _places(words)
    chunks = {key: found for key, (found, _) in [*near.items(), *worded.items()]}
    fused = []
    for (embedder, chunk_id), chunk in chunks.items():
        of_vector, of_words = (
            places[embedder, chunk_id][1] if (embedder, chunk_id) in places else None for places in (near, worded)
        )
        score = sum(1 / (RANK_CONSTANT + place.rank) for place in (of_vector, of_words) if place is not None)
        fused.append(Fused(embedder=embedder, chunk=chunk, score=score, vector=of_vector, words=of_words))
    return sorted(fused, key=lambda each: (-each.score, each.chunk.chunk_id, each.embedder))


def best_of_documents(fused: Iterable[Fused]) -> Sequence[Fused]:
    """Return the first chunk of each document, in their order."""
    first: dict[tuple[str, str], Fused] = {}
    for each in fused:
        first.setdefault((each.chunk.collection, each.chunk.document), each)
    return list(first.values())


def _places(answers: Mapping[str, Sequence[LegAnswer]]) -> Mapping[tuple[str, int], tuple[Found, Place]]:
    return {
        (embedder, found.chunk_id): (found, Place(rank, found.score))
        for embedder, each in answers.items()
        for answer in each
        for rank, found in enumerate(answer.found, 1)
    }
