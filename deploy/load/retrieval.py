"""
The figures of a retrieval: how high a search ranks the spans that answer a question.

A hit counts for an answer if they overlap by at least half of the shorter of both. An answer is a sentence or two and
a hit a chunk of several: half of the sentence must then lie in the chunk, so that a chunk which only touches it at a
border earns nothing, and of two chunks that cut it the one with the greater part does. Half of the shorter, not of
either one, because a chunker may also make chunks that are smaller than an answer. Answers are
places in the text and know no chunks, so one set of questions serves every chunker; but larger chunks hold an answer
more easily, so compare chunkers at one size.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

HITS_MAX = 10  # what lies further down is not looked at
RESAMPLES = 2_000
CONFIDENCE = 0.95
SEED = 1817  # of the resampling: the same rankings have the same intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSpan:
    """A stretch of a document's text, from code point `start` up to and without `end`."""

    collection: str
    document: str
    start: int
    end: int

    @property
    def length(self) -> int:
        """Return the number of code points."""
        return self.end - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question, and every span that answers it: at least one."""

    id: str
    text: str
    answers: tuple[TextSpan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The hits of a search for a question, the best first."""

    question: Question
    hits: tuple[TextSpan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A mean over all questions, with the bounds of its 95% interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of one search over one set of questions."""

    questions: int
    hit_at_1: Figure
    hit_at_5: Figure
    hit_at_10: Figure
    mrr_at_10: Figure
    ndcg_at_10: Figure


def figures(rankings: Sequence[Ranking], *, seed: int = SEED) -> Figures:
    """
    Return the figures of *rankings*, one of which belongs to each question.

    Raises:
        ValueError: there are no rankings, so nothing has a mean.
    """
    if not rankings:
        raise ValueError("no rankings to take figures of; ask at least one question")

    def figure(score: Callable[[Ranking], float]) -> Figure:
        return with_interval([score(each) for each in rankings], seed=seed)

    return Figures(
        questions=len(rankings),
        hit_at_1=figure(lambda ranking: hit_at(ranking, 1)),
        hit_at_5=figure(lambda ranking: hit_at(ranking, 5)),
        hit_at_10=figure(lambda ranking: hit_at(ranking, HITS_MAX)),
        mrr_at_10=figure(reciprocal_rank),
        ndcg_at_10=figure(discounted_gain),
    )


def holds(hit: TextSpan, answer: TextSpan) -> bool:
    """Return True if *hit* and *answer* overlap by at least half of the shorter of both."""
    if (hit.collection, hit.document) != (answer.collection, answer.document):
        return False
    overlap = min(hit.end, answer.end) - max(hit.start, answer.start)
    return overlap > 0 and 2 * overlap >= min(hit.length, answer.length)


def hit_at(ranking: Ranking, depth: int) -> float:
    """Return 1 if one of the first *depth* hits holds an answer, else 0."""
    rank = first_rank(ranking)
    return float(rank is not None and rank <= depth)


def reciprocal_rank(ranking: Ranking) -> float:
    """Return 1 / the rank of the first hit that holds an answer; 0 if none of the first ten does."""
    rank = first_rank(ranking)
    return 0.0 if rank is None else 1 / rank


def first_rank(ranking: Ranking) -> int | None:
    """Return the rank of the first hit that holds an answer, from 1; None if none of the first ten does."""
    return next((rank for rank, gain in enumerate(gains(ranking), start=1) if gain), None)


def discounted_gain(ranking: Ranking) -> float:
    """
    Return nDCG of the first ten hits, between 0 and 1.

    A hit gains 1 if it holds an answer that no hit above it holds: overlapping chunks of one passage gain once.
    The ideal has as many gains as this ranking, and one more for each answer that it missed, all at the top. So two
    answers in one chunk need one hit, and in two chunks two.
    """
    gained = gains(ranking)
    hits = ranking.hits[:HITS_MAX]
    missed = sum(not any(holds(hit, answer) for hit in hits) for answer in ranking.question.answers)
    ideal = [1] * min(sum(gained) + missed, HITS_MAX)
    return _discounted(gained) / _discounted(ideal)


def gains(ranking: Ranking) -> list[int]:
    """Return, for each of the first ten hits, 1 if it holds an answer that no hit above it holds, else 0."""
    open_answers = set(ranking.question.answers)
    gained = []
    for hit in ranking.hits[:HITS_MAX]:
        found = {answer for answer in open_answers if holds(hit, answer)}
        open_answers -= found
        gained.append(int(bool(found)))
    return gained


def with_interval(scores: Sequence[float], *, seed: int) -> Figure:
    """Return the mean of *scores* with a percentile bootstrap interval; questions are what is resampled."""
    generator = random.Random(seed)  # noqa: S311 - no secret
    count = len(scores)
    means = sorted(math.fsum(generator.choices(scores, k=count)) / count for _ in range(RESAMPLES))
    outside = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    return Figure(mean=math.fsum(scores) / count, low=means[outside], high=means[-1 - outside])


def _discounted(gained: Sequence[int]) -> float:
    return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gained, start=1))
