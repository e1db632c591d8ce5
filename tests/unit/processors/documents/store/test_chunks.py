"""Rows that stay, move, go and come: what `difference` says makes the rows the new chunks."""

from collections import Counter, defaultdict
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from processors.documents.store.chunks import Difference, difference, new_chunks
from processors.documents.versions import chunk_sha256
from schemas.documents.records import Embedding, Span


class Row(NamedTuple):
    """A row of a table of chunks, as it is read."""

    id: int
    ordinal: int
    start: int
    end: int
    sha256: bytes
    heading: str | None


def embedding(spans: list[Span]) -> Embedding:
    """Return an embedding of two dimensions, each vector of which is its ordinal."""
    vectors = b"".join(ordinal.to_bytes(4, "little") for ordinal in range(len(spans)))
    return Embedding(embedder="e", chunker="c", dimensions=2, chunks=spans, vectors=vectors)


def version(chunks: list[tuple[str, str | None]]) -> tuple[str, Embedding]:
    """Return a text of *chunks*, each with its heading, one behind the other."""
    text, spans = "", list[Span]()
    for chunk, heading in chunks:
        spans.append(Span(start=len(text), end=len(text) + len(chunk), heading=heading))
        text += chunk
    return text, embedding(spans)


def rows_of(chunks: list[tuple[str, str | None]]) -> list[Row]:
    """Return the rows that a table has after *chunks* were stored."""
    return [
        Row(100 + new.ordinal, new.ordinal, new.span.start, new.span.end, new.sha256, new.span.heading)
        for new in new_chunks(*version(chunks))
    ]


def applied(rows: list[Row], found: Difference) -> list[Row]:
    """Return the rows after what `difference` found; those that come have ids from 1000."""
    by_id = {row.id: row for row in rows if row.id not in found.deleted}
    for row_id, new in found.moved:
        by_id[row_id] = by_id[row_id]._replace(ordinal=new.ordinal, start=new.span.start, end=new.span.end)
    come = [
        Row(1000 + new.ordinal, new.ordinal, new.span.start, new.span.end, new.sha256, new.span.heading)
        for new in found.inserted
    ]
    return sorted([*by_id.values(), *come], key=lambda row: row.ordinal)


CHUNKS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "ab", "long"]), st.sampled_from([None, "h", "h > i"])), max_size=12
)


@given(CHUNKS, CHUNKS)
def test_the_difference_makes_the_rows_the_new_chunks(
    old: list[tuple[str, str | None]], new: list[tuple[str, str | None]]
) -> None:
    found = difference(rows_of(old), new_chunks(*version(new)))
    assert [row[1:] for row in applied(rows_of(old), found)] == [row[1:] for row in rows_of(new)]


@given(CHUNKS, CHUNKS)
def test_no_more_is_written_than_the_contents_ask_for(
    old: list[tuple[str, str | None]], new: list[tuple[str, str | None]]
) -> None:
    """A vector goes into the index only for content that had no row, and leaves it only where it is no longer."""
    found = difference(rows_of(old), new_chunks(*version(new)))
    assert len(found.inserted) == (Counter(new) - Counter(old)).total()
    assert len(found.deleted) == (Counter(old) - Counter(new)).total()
    assert not {*found.deleted} & {row_id for row_id, _ in found.moved}


@given(CHUNKS, CHUNKS)
def test_equal_chunks_are_matched_in_their_order(
    old: list[tuple[str, str | None]], new: list[tuple[str, str | None]]
) -> None:
    after = applied(rows_of(old), difference(rows_of(old), new_chunks(*version(new))))
    by_content: defaultdict[tuple[bytes, str | None], list[int]] = defaultdict(list)
    for row in after:
        by_content[row.sha256, row.heading].append(row.id)
    assert all(ids == sorted(ids) for ids in by_content.values())


@given(CHUNKS)
def test_the_same_version_writes_nothing(chunks: list[tuple[str, str | None]]) -> None:
    assert difference(rows_of(chunks), new_chunks(*version(chunks))) == Difference([], [], [])


def test_a_chunk_before_the_others_moves_them_and_is_alone_inserted() -> None:
    found = difference(
        rows_of([("b", None), ("c", None)]), new_chunks(*version([("aa", None), ("b", None), ("c", None)]))
    )
    assert found.deleted == []
    assert [(row_id, new.ordinal, new.span.start, new.span.end) for row_id, new in found.moved] == [
        (100, 1, 2, 3),
        (101, 2, 3, 4),
    ]
    assert [(new.ordinal, new.text) for new in found.inserted] == [(0, "aa")]


def test_a_chunk_under_another_heading_is_another_chunk() -> None:
    """Its words are searched with their heading."""
    found = difference(rows_of([("a", "one")]), new_chunks(*version([("a", "two")])))
    assert found.deleted == [100]
    assert [new.span.heading for new in found.inserted] == ["two"]


def test_a_new_chunk_has_its_part_of_the_text_and_of_the_vectors() -> None:
    text = "Wäre es\nso, 🌊 hier"
    spans = [Span(start=0, end=8), Span(start=5, end=13, heading="h"), Span(start=12, end=len(text))]
    found = new_chunks(text, embedding(spans))
    assert [(new.ordinal, new.text, new.vector) for new in found] == [
        (0, "Wäre es\n", b"\x00\x00\x00\x00"),
        (1, "es\nso, 🌊", b"\x01\x00\x00\x00"),
        (2, "🌊 hier", b"\x02\x00\x00\x00"),
    ]
    assert [new.sha256 for new in found] == [chunk_sha256(new.text) for new in found]
