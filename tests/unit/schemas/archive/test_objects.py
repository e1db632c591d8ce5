"""The content of archived objects: each byte of a record comes back, and whatever was changed is found."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.archive import lines, objects
from schemas.archive.footer import Footer, FooterInvalid, FooterLonger, frame, from_tail, subject_of, subjects_text
from schemas.archive.lines import Line
from schemas.archive.names import Branch, ObjectName
from schemas.archive.objects import ObjectDamaged, ObjectWriter, read_object

NAME = ObjectName(branch=Branch(topic="user.events", topic_id="abc", partition=3), first=100)


@dataclass(frozen=True)
class Record:
    """A record of the log."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


RECORDS = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.integers(-1, 2**41),
        st.none() | st.binary(max_size=8),
        st.none() | st.binary(max_size=80),
        st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3),
    ),
    min_size=1,
    max_size=20,
)


def written(drawn: list[tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]]) -> list[Record]:
    """Return drawn records, whose offsets have gaps."""
    at, found = NAME.first - 1, []
    for step, timestamp, key, value, headers in drawn:
        at += step
        found.append(Record(at, timestamp, key, value, headers))
    return found


def content(records: Sequence[Record]) -> tuple[bytes, Footer]:
    """Return the object of *records*."""
    out = io.BytesIO()
    writer = ObjectWriter(out, NAME)
    for each in records:
        line = lines.write(
            topic="user.events", partition=3, offset=each.offset, timestamp=each.timestamp, key=each.key,
            headers=each.headers, record=None, value=each.value,
        )  # fmt: skip
        writer.add(line, offset=each.offset, timestamp=each.timestamp)
    footer = writer.end()
    assert writer.size_bytes == len(out.getvalue())
    return out.getvalue(), footer


def simple(count: int, *, value: bytes = b"v") -> tuple[bytes, Footer]:
    return content([Record(NAME.first + number, number, b"k", value, []) for number in range(count)])


def read(whole: bytes, *, chunk: int = 7) -> list[Line]:
    return [line for _, line in read_object(in_chunks(whole, chunk), NAME)]


def in_chunks(whole: bytes, size: int) -> Iterator[bytes]:
    yield from (whole[at : at + size] for at in range(0, len(whole), size))


@given(drawn=RECORDS, chunk=st.integers(1, 400))
def test_records_come_back_byte_by_byte(drawn: list[tuple[int, int, bytes, bytes, list[tuple[str, bytes]]]], chunk: int) -> None:  # fmt: skip  # noqa: E501
    records = written(drawn)  # type: ignore[arg-type]
    whole, footer = content(records)
    found = read(whole, chunk=chunk)
    assert [
        Record(each.offset, each.timestamp, each.key_bytes, each.value_bytes, each.header_bytes) for each in found
    ] == records
    assert (footer.first, footer.next, footer.count) == (NAME.first, records[-1].offset + 1, len(records))
    assert footer.first_ms == min(each.timestamp for each in records)
    assert footer.last_ms == max(each.timestamp for each in records)
    assert from_tail(whole) == footer


def test_each_flipped_bit_is_found() -> None:
    """Also one that no decoder looks at, and one in the footer."""
    whole, _ = simple(2)
    for at in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            with pytest.raises(ObjectDamaged):
                read(bytes(flipped), chunk=1000)


@given(length=st.floats(0, 1, exclude_max=True))
def test_an_object_that_is_cut_off_is_found(length: float) -> None:
    whole, _ = simple(40)
    with pytest.raises(ObjectDamaged):
        read(whole[: int(length * len(whole))])


def test_an_object_that_is_cut_off_between_two_frames_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other reader of zstd takes it for whole."""
    monkeypatch.setattr(objects, "FRAME_TEXT_BYTES", 1)
    one, _ = simple(1)
    whole, _ = simple(2)
    cut = one[: -len(frame(from_tail(one)))]
    assert whole.startswith(cut)
    with pytest.raises(ObjectDamaged, match="without its footer"):
        read(cut)


def test_a_frame_that_is_missing_in_the_middle_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "FRAME_TEXT_BYTES", 1)
    whole, footer = simple(3)
    size = (len(whole) - len(frame(footer))) // 3
    with pytest.raises(ObjectDamaged, match="digests differ"):
        read(whole[:size] + whole[2 * size :])


@pytest.mark.parametrize("doubled", ["lines", "object"])
def test_lines_that_are_there_twice_are_found(doubled: str) -> None:
    whole, footer = simple(3)
    frames = whole[: -len(frame(footer))]
    with pytest.raises(ObjectDamaged):
        read(frames + whole if doubled == "lines" else whole + whole)


@pytest.mark.parametrize(
    "other",
    [
        ObjectName(branch=NAME.branch, first=99),
        ObjectName(branch=Branch(topic="user.events", topic_id="other", partition=3), first=100),
        ObjectName(branch=Branch(topic="user.events", topic_id="abc", partition=4), first=100),
        ObjectName(branch=Branch(topic="run.events", topic_id="abc", partition=3), first=100),
    ],
)
def test_an_object_under_another_name_is_found(other: ObjectName) -> None:
    whole, _ = simple(3)
    with pytest.raises(ObjectDamaged):
        list(read_object([whole], other))


def test_an_empty_object_is_found() -> None:
    with pytest.raises(ObjectDamaged):
        read(b"")


def test_large_lines_are_read() -> None:
    whole, _ = simple(3, value=bytes(range(256)) * 20_000)
    assert [each.value_bytes for each in read(whole, chunk=100_000)] == [bytes(range(256)) * 20_000] * 3


def test_the_end_of_an_object_is_enough_for_its_footer() -> None:
    whole, footer = simple(3)
    with pytest.raises(FooterLonger) as longer:
        from_tail(whole[-20:])
    assert from_tail(whole[-longer.value.size_bytes :]) == footer
    for tail in (b"", b"1234567", bytes(8), whole[:-1]):
        with pytest.raises(FooterInvalid):
            from_tail(tail)


def test_a_footer_knows_the_users_in_its_object() -> None:
    users = [subject_of("abc", tenant="demo", user_id=f"user-{number}") for number in range(5000)]
    _, footer = simple(1)
    document = Footer(**{name: getattr(footer, name) for name in footer.__struct_fields__ if name != "subjects"},
                      subjects=subjects_text([*users, *users]))  # fmt: skip
    assert all(map(document.has, users))
    assert not document.has(subject_of("abc", tenant="demo", user_id="another"))
    assert subject_of("abc", tenant="demo2", user_id="x") != subject_of("abc", tenant="demo", user_id="2x")
    assert len(base64.b64decode(document.subjects)) == 5000 * 8


def test_a_record_whose_bytes_the_log_could_not_give_says_so() -> None:
    text = lines.write(
        topic="t", partition=0, offset=1, timestamp=2, key=None, headers=(), record=None, value=None, cut="too_large"
    )
    assert lines.read(text).cut == "too_large"
