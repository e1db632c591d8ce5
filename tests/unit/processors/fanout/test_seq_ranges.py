"""A seq is sent once on a socket; what is remembered is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from processors.fanout.seq_ranges import SeqRanges


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 30)), max_size=200))
def test_each_is_taken_once_in_whatever_order(told: list[tuple[str, int]]) -> None:
    sent, known = SeqRanges(), set[tuple[str, int]]()
    for each in told:
        assert sent.add(*each) == (each not in known)
        known.add(each)


def test_beyond_the_bound_the_run_heard_of_longest_ago_is_forgotten() -> None:
    sent = SeqRanges(ranges_max=2)
    assert [sent.add(run, 1) for run in ("a", "b", "a", "c")] == [True, True, False, True]
    assert not sent.add("a", 1)  # it was heard of after b
    assert sent.add("b", 1)


def test_a_run_without_gaps_takes_no_more_room_however_long_it_is() -> None:
    sent = SeqRanges(ranges_max=1)
    assert all(sent.add("a", seq) for seq in range(1, 1000))
    assert not any(sent.add("a", seq) for seq in range(1, 1000))
