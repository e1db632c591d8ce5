"""The chain of a partition's objects: gaps and leftovers are found, whatever is missing."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from schemas.archive.chain import Gap, Link, chain
from schemas.archive.footer import Footer
from schemas.archive.names import Branch, ObjectName

BRANCH = Branch(topic="user.events", topic_id="abc", partition=0)


def link(first: int, end: int) -> Link:
    footer = Footer(
        topic="user.events", topic_id="abc", partition=0, first=first, next=end, count=1, size_bytes=1, sha256="",
        packed_sha256="", first_ms=0, last_ms=0,
    )  # fmt: skip
    return Link(name=ObjectName(branch=BRANCH, first=first), footer=footer)


def links(ends: Sequence[int]) -> list[Link]:
    return [link(first, end) for first, end in pairwise(ends)]


ENDS = st.lists(st.integers(0, 10_000), min_size=2, max_size=20, unique=True).map(sorted)


@given(ends=ENDS, order=st.randoms())
def test_a_whole_chain_has_no_gap(ends: list[int], order: st.DataObject) -> None:
    found = links(ends)
    order.shuffle(found)  # type: ignore[attr-defined]
    made = chain(found)
    assert (made.first, made.next, made.gaps, made.leftovers) == (ends[0], ends[-1], [], [])
    assert made.lacking(ends[0], ends[-1]) == []


@given(ends=ENDS, data=st.data())
def test_a_missing_object_is_a_gap_that_names_its_offsets(ends: list[int], data: st.DataObject) -> None:
    found = links(ends)
    missing = found.pop(data.draw(st.integers(0, len(found) - 1)))
    made = chain(found)
    gap = Gap(first=missing.footer.first, next=missing.footer.next)
    is_within = bool(found) and found[0].footer.first < gap.first and gap.next < found[-1].footer.next
    assert made.gaps == ([gap] if is_within else [])
    assert made.lacking(ends[0], ends[-1]) == [gap]


def test_a_name_within_what_another_object_covers_is_a_leftover() -> None:
    made = chain([link(0, 10), link(5, 10), link(10, 20)])
    assert [each.first for each in made.leftovers] == [5]
    assert (made.gaps, made.next) == ([], 20)


def test_nothing_has_no_ends() -> None:
    made = chain([])
    assert (made.first, made.next) == (None, None)
    assert made.lacking(3, 5) == [Gap(first=3, next=5)]


def test_only_what_was_asked_for_is_covered() -> None:
    made = chain([link(0, 10), link(10, 20), link(20, 30)])
    assert [each.name.first for each in made.covering(10, 20)] == [10]
    assert [each.name.first for each in made.covering(9, 21)] == [0, 10, 20]
    assert made.lacking(25, 40) == [Gap(first=30, next=40)]
