"""How much poison is the sender's fault."""

from hypothesis import given
from hypothesis import strategies as st

from processors.runtime.limit import DeadLetterLimit, DeadLetterRatio

LIMIT = DeadLetterLimit(consecutive_max=10, share_max=0.5, share_over_records=100)


def test_a_topic_of_poison_stops_at_the_limit() -> None:
    state, written = DeadLetterRatio(), 0
    while state.admits(LIMIT):
        state.dead_lettered(LIMIT)
        written += 1
    assert written == LIMIT.consecutive_max


def test_a_good_record_breaks_the_row() -> None:
    state = DeadLetterRatio()
    for _ in range(9):
        state.dead_lettered(LIMIT)
    state.passed(1, LIMIT)
    assert state.admits(LIMIT)
    assert state.consecutive == 0


def test_a_large_share_stops_even_with_good_records_between() -> None:
    state, written = DeadLetterRatio(), 0
    while state.admits(LIMIT) and written < 10_000:
        for _ in range(3):
            state.dead_lettered(LIMIT)
        state.passed(1, LIMIT)
        written += 3
    assert written < 3 * LIMIT.share_over_records


def test_few_records_are_not_judged_by_their_share() -> None:
    state = DeadLetterRatio()
    state.dead_lettered(LIMIT)
    assert state.admits(LIMIT)


def test_a_raised_limit_lets_go_on() -> None:
    state = DeadLetterRatio(consecutive=10)
    assert not state.admits(LIMIT)
    assert state.admits(DeadLetterLimit(consecutive_max=20, share_max=1.0))


@given(st.lists(st.booleans(), max_size=2000))
def test_poison_below_the_share_never_stops(is_good: list[bool]) -> None:
    state = DeadLetterRatio()
    for good in is_good:
        state.passed(2 if good else 1, LIMIT)
        if not good:
            assert state.admits(LIMIT)
            state.dead_lettered(LIMIT)


def test_a_record_that_decodes_and_dies_counts_once() -> None:
    """Regression: it was counted when it was decoded, and again when it became a dead letter."""
    state = DeadLetterRatio()
    state.passed(1, LIMIT)
    state.dead_lettered(LIMIT, counted=True)
    assert (state.records, state.dead, state.consecutive) == (1, 1, 1)
