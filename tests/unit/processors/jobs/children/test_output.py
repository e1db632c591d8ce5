"""The output of an attempt: what is kept of it, what is shown, and what is masked."""

import re
from time import monotonic

import pytest

from processors.jobs.children.output import (
    HEAD_BYTES_MAX,
    LAST_LINES,
    LINE_CHARACTERS_MAX,
    LIVE_BYTES_MAX,
    TAIL_BYTES_MAX,
    Output,
)

SECRET = "password=hunter2secret"


def written(*pieces: bytes, stream: str = "stdout") -> Output:
    output = Output()
    for piece in pieces:
        output.add(stream, piece)
    return output


def texts(text: str | None) -> list[str]:
    """Return lines without their times."""
    return [line.split(" ", 1)[1] for line in (text or "").splitlines()]


def test_of_nothing_nothing_is_kept() -> None:
    output = written()
    assert (output.text(), output.take_live(), output.last_lines()) == (None, None, "")


def test_each_line_has_its_time_in_utc_and_its_stream() -> None:
    text = written(b"hello\n").text()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z stdout hello", text or "")


@pytest.mark.parametrize(
    "pieces", [(b"one\ntwo\n",), (b"one\nt", b"wo"), (b"o", b"ne", b"\n", b"two"), (b"one\r\ntwo",)]
)
def test_lines_are_the_same_however_they_arrive(pieces: tuple[bytes, ...]) -> None:
    assert texts(written(*pieces).text()) == ["stdout one", "stdout two"]


def test_two_streams_never_share_a_line() -> None:
    output = Output()
    for stream, piece in (("stdout", b"a"), ("stderr", b"X"), ("stdout", b"b\n"), ("stderr", b"Y\n")):
        output.add(stream, piece)
    assert texts(output.text()) == ["stdout ab", "stderr XY"]


def test_a_character_that_arrives_in_two_pieces_is_one() -> None:
    assert texts(written("ä".encode()[:1], "ä".encode()[1:]).text()) == ["stdout ä"]


def test_a_long_line_is_cut() -> None:
    (line,) = texts(written(b"x" * 3 * LINE_CHARACTERS_MAX).text())
    assert len(line) < LINE_CHARACTERS_MAX + 50


def test_of_too_much_the_head_and_the_tail_are_kept() -> None:
    output = written(*(f"{number:07}\n".encode() for number in range(300_000)))
    lines = texts(output.text())
    assert lines[0] == "stdout 0000000"
    assert lines[-1] == "stdout 0299999"
    (cut,) = [line for line in lines if "bytes are not kept" in line]
    kept = sum(len(line) - len("stdout ") + 1 for line in lines if line is not cut)
    assert kept <= HEAD_BYTES_MAX + TAIL_BYTES_MAX + 2 * 64 * 1024


def test_many_small_writes_take_no_longer_than_few_large_ones() -> None:
    output, began_s = Output(), monotonic()
    for _ in range(300_000):
        output.add("stdout", b".")
    output.text()
    assert monotonic() - began_s < 30  # pieces by themselves take minutes
    assert len(output._head) + len(output._tail) < 10_000


def test_a_secret_is_masked_however_it_arrives() -> None:
    assert "hunter2" not in (written(b"pass", b"word=hun", b"ter2secret\n").text() or "")


def test_a_secret_is_masked_where_the_cut_meets_it() -> None:
    for shift in range(0, 24, 5):
        output = written(b"x" * shift + b"\n", *(f"{SECRET}\n".encode() * 300 for _ in range(400)))
        assert "hunter" not in (output.text() or "")
        assert not re.search(r"stdout \S*er2secret", output.text() or "")


def test_what_is_shown_live_is_what_came_since() -> None:
    output = written(b"one\n")
    assert texts(output.take_live()) == ["stdout one"]
    output.add("stdout", b"two\n")
    assert texts(output.take_live()) == ["stdout two"]
    assert output.take_live() is None


def test_a_line_is_shown_live_when_it_is_whole() -> None:
    output = written(b"pass")
    assert output.take_live() is None
    output.add("stdout", b"word=hunter2secret\nnext")
    (line,) = texts(output.take_live())
    assert "hunter2" not in line
    output.add("stdout", b"\n")
    assert texts(output.take_live()) == ["stdout next"]


def test_a_line_without_an_end_is_shown_live_once_it_is_long() -> None:
    output = written(*(b"x" * 8000 for _ in range(6)))
    assert len(texts(output.take_live())) == 1


def test_a_live_report_is_bounded() -> None:
    output = written(*(b"x" * 1000 + b"\n" for _ in range(1000)))
    assert len(output.take_live() or "") <= LIVE_BYTES_MAX


def test_the_last_lines_are_those_of_the_end() -> None:
    output = written(*(f"{number}\n".encode() for number in range(1000)))
    assert texts(output.last_lines()) == [f"stdout {number}" for number in range(1000 - LAST_LINES, 1000)]
