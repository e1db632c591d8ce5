"""The figures of a retrieval, against values worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.load.retrieval import (
    Figure,
    Question,
    Ranking,
    TextSpan,
    discounted_gain,
    figures,
    hit_at,
    holds,
    reciprocal_rank,
    with_interval,
)


def span(start: int, end: int, document: str = "1", collection: str = "persuasion") -> TextSpan:
    return TextSpan(collection=collection, document=document, start=start, end=end)


ANSWER = span(1_000, 1_100)
OTHER_ANSWER = span(5_000, 5_100)
MISS = span(8_000, 8_800)


def ranking(*hits: TextSpan, answers: tuple[TextSpan, ...] = (ANSWER,)) -> Ranking:
    return Ranking(question=Question(id="q", text="?", answers=answers), hits=hits)


@pytest.mark.parametrize(
    ("hit", "counts"),
    [
        (span(900, 1_700), True),  # the answer lies in the chunk
        (span(200, 1_050), True),  # half of it
        (span(200, 1_049), False),  # less than half of it
        (span(1_050, 1_900), True),
        (span(1_051, 1_900), False),
        (span(1_020, 1_060), True),  # a chunk that is shorter than the answer
        (span(970, 1_030), True),  # half of the chunk
        (span(969, 1_030), False),
        (span(200, 1_000), False),  # it ends where the answer begins
        (span(900, 1_700, document="2"), False),
        (span(900, 1_700, collection="northanger-abbey"), False),
    ],
)
def test_a_hit_counts_if_it_overlaps_by_half_of_the_shorter(hit: TextSpan, counts: bool) -> None:
    assert holds(hit, ANSWER) is counts


@pytest.mark.parametrize(
    ("rank", "at_1", "at_5", "at_10", "reciprocal"),
    [
        (1, 1, 1, 1, 1.0),
        (2, 0, 1, 1, 0.5),
        (5, 0, 1, 1, 0.2),
        (6, 0, 0, 1, 1 / 6),
        (10, 0, 0, 1, 0.1),
        (11, 0, 0, 0, 0.0),
    ],
)
def test_the_first_right_hit_decides(rank: int, at_1: int, at_5: int, at_10: int, reciprocal: float) -> None:
    """The eleventh is not looked at."""
    ranked = ranking(*[MISS] * (rank - 1), ANSWER, ANSWER)
    assert [hit_at(ranked, depth) for depth in (1, 5, 10)] == [at_1, at_5, at_10]
    assert reciprocal_rank(ranked) == reciprocal
    assert discounted_gain(ranked) == pytest.approx(1 / math.log2(rank + 1) if rank <= 10 else 0)


def test_a_search_without_hits_scores_nothing() -> None:
    assert hit_at(ranking(), 10) == reciprocal_rank(ranking()) == discounted_gain(ranking()) == 0


BOTH = (ANSWER, OTHER_ANSWER)
SECOND_GAIN = 1 / math.log2(3)


@pytest.mark.parametrize(
    ("hits", "gain"),
    [
        ((ANSWER, OTHER_ANSWER), 1.0),
        ((OTHER_ANSWER, ANSWER), 1.0),
        ((ANSWER, MISS, OTHER_ANSWER), (1 + 1 / 2) / (1 + SECOND_GAIN)),
        ((ANSWER, MISS), 1 / (1 + SECOND_GAIN)),
        ((MISS, ANSWER), SECOND_GAIN / (1 + SECOND_GAIN)),
        ((span(1_000, 6_000),), 1.0),  # one chunk holds both
        ((MISS, span(1_000, 6_000)), SECOND_GAIN),
    ],
)
def test_gain_counts_every_answer_and_discounts_by_rank(hits: tuple[TextSpan, ...], gain: float) -> None:
    assert discounted_gain(ranking(*hits, answers=BOTH)) == pytest.approx(gain)


def test_overlapping_chunks_of_one_passage_gain_once() -> None:
    repeated = ranking(span(900, 1_700), span(950, 1_750), OTHER_ANSWER, answers=BOTH)
    assert discounted_gain(repeated) == pytest.approx((1 + 1 / 2) / (1 + SECOND_GAIN))


def test_figures_are_means_over_the_questions() -> None:
    found = figures([ranking(ANSWER), ranking(MISS, ANSWER), ranking(*[MISS] * 7, ANSWER), ranking(MISS)])
    assert found.questions == 4
    assert [found.hit_at_1.mean, found.hit_at_5.mean, found.hit_at_10.mean] == [0.25, 0.5, 0.75]
    assert found.mrr_at_10.mean == pytest.approx((1 + 1 / 2 + 1 / 8) / 4)
    assert found.ndcg_at_10.mean == pytest.approx((1 + SECOND_GAIN + 1 / math.log2(9)) / 4)


def test_figures_of_no_question_are_refused() -> None:
    with pytest.raises(ValueError, match="ask at least one question"):
        figures([])


def test_an_interval_is_that_of_the_binomial_it_resamples() -> None:
    """Half of 100 questions right: the mean of a resample has a standard deviation of 0.05."""
    found = with_interval([0.0, 1.0] * 50, seed=1)
    assert found.mean == 0.5
    assert found.low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.015)
    assert found.high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.015)


def test_equal_scores_have_no_spread() -> None:
    assert with_interval([0.25] * 9, seed=1) == Figure(mean=0.25, low=0.25, high=0.25)


def test_the_seed_decides_the_interval() -> None:
    scores = [0.0, 0.1, 0.2, 0.5, 1.0, 0.33, 0.7]
    assert with_interval(scores, seed=1) == with_interval(scores, seed=1)
    assert with_interval(scores, seed=1) != with_interval(scores, seed=2)


SPANS = st.builds(
    lambda start, length, document: span(start, start + length, document),
    st.integers(0, 300), st.integers(1, 120), st.sampled_from("12"),
)  # fmt: skip


@given(SPANS, SPANS)
def test_overlap_has_no_direction(one: TextSpan, other: TextSpan) -> None:
    assert holds(one, other) is holds(other, one)


@given(st.lists(SPANS, max_size=14), st.lists(SPANS, min_size=1, max_size=4))
def test_scores_lie_between_nothing_and_all(hits: list[TextSpan], answers: list[TextSpan]) -> None:
    ranked = ranking(*hits, answers=tuple(answers))
    assert 0 <= discounted_gain(ranked) <= 1
    assert hit_at(ranked, 1) <= reciprocal_rank(ranked) <= hit_at(ranked, 10)
    assert (discounted_gain(ranked) > 0) is (hit_at(ranked, 10) == 1)


@given(st.lists(SPANS, max_size=9), st.lists(SPANS, min_size=1, max_size=4))
def test_a_better_place_never_scores_less(hits: list[TextSpan], answers: list[TextSpan]) -> None:
    """A search that puts a miss first has no better figure for it."""
    before = ranking(*hits, answers=tuple(answers))
    after = ranking(span(9_000, 9_001), *hits, answers=tuple(answers))
    assert reciprocal_rank(after) <= reciprocal_rank(before)
    assert discounted_gain(after) <= discounted_gain(before) + 1e-9
