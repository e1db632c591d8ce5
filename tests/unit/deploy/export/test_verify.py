"""An export holds, or its first fault is named with the line and the event."""

import io
import json
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.export.format import LINE_BYTES_MAX, SEAL_START, seal, split
from deploy.export.verify import VerificationFailed, VerificationResult, verify
from schemas.canonical import event_digest
from schemas.runs import chain
from tests.support import builders
from tests.unit.deploy.export.exports import NOW, VERBATIM, lines

WHOLE = lines()
LAST = len(WHOLE)
MiB = 1024 * 1024


def check(parts: Sequence[bytes], **options: Any) -> VerificationResult:
    return verify(io.BytesIO(b"".join(parts)), **options)


def refusal(parts: Sequence[bytes], **options: Any) -> VerificationFailed:
    with pytest.raises(VerificationFailed) as refused:
        check(parts, **options)
    return refused.value


def changed(number: int, old: bytes, new: bytes) -> list[bytes]:
    """Return the export with one line, from 1, changed at one place."""
    assert WHOLE[number - 1].count(old) == 1, WHOLE[number - 1]
    return [line.replace(old, new) if place == number else line for place, line in enumerate(WHOLE, 1)]


def digit_moved(number: int, name: str) -> list[bytes]:
    """Return the export with one digit of a digest changed."""
    line = WHOLE[number - 1]
    at = line.index(f'"{name}":"'.encode()) + len(name) + 4
    other = b"0" if line[at : at + 1] != b"0" else b"1"
    return [*WHOLE[: number - 1], line[:at] + other + line[at + 1 :], *WHOLE[number:]]


def test_what_was_exported_holds() -> None:
    verified = check(WHOLE)
    assert (verified.run_id, verified.status, verified.finalized, verified.event_count) == (
        *(builders.RUN, "succeeded", True),
        4,
    )
    assert verified.chain_head == json.loads(WHOLE[-1])["chain_head"]
    assert json.loads(WHOLE[0])["exported_at"] == NOW.isoformat().replace("+00:00", "Z")


def test_an_event_is_as_it_was_sent_on_one_line() -> None:
    """Numbers with their digits; a line break between tokens is a blank."""
    assert b'"payload":' + VERBATIM.replace("\n", " ").encode() + b"," in WHOLE[1]
    assert all(line.count(b"\n") == 1 for line in WHOLE)


def test_a_run_that_is_not_finalized_or_empty_holds() -> None:
    unfinished = lines(status="open", finalized_at=None)
    assert not check(unfinished).finalized
    assert json.loads(unfinished[-1])["trace"] is None
    assert check(lines(())).event_count == 0


def test_gaps_of_the_run_are_no_fault() -> None:
    assert check(lines((2, 3, 7))).event_count == 3


def without(*numbers: int) -> list[bytes]:
    return [line for number, line in enumerate(WHOLE, 1) if number not in numbers]


@pytest.mark.parametrize(
    ("parts", "line", "seq", "says"),
    [
        (changed(2, b"1.00", b"1.01"), 2, 1, "event_sha256 is not the digest"),
        (changed(3, b"2025-12-05T10:00:00Z", b"2025-12-05T10:00:01Z"), 3, 2, "event_sha256 is not the digest"),
        (digit_moved(3, "event_sha256"), 3, 2, "event_sha256 is not the digest"),
        (digit_moved(3, "chain"), 3, 2, "a link was changed"),
        (digit_moved(3, "seal"), 3, 2, "the seal is not that"),
        (changed(3, b"run.events/3/1002", b"run.events/3/1003"), 3, 2, "the seal is not that"),
        (changed(1, b"run-1", b"run-2"), 1, None, "the seal is not that"),
        (changed(1, b'"succeeded"', b'"failed"'), 1, None, "the seal is not that"),
        (changed(1, b"2026-01-02", b"2026-01-03"), 1, None, "the seal is not that"),
        (changed(1, b'"version":1', b'"version":2'), 1, None, "version 2"),
        (digit_moved(LAST, "seal"), LAST, None, "the seal is not that"),
        (changed(LAST, b'"complete": true', b'"complete": false'), LAST, None, "the seal is not that"),
        (changed(LAST, b'{"event_count":4', b'{"event_count":5'), LAST, None, "event_count is 5, and 4"),
        (without(1), 1, None, "no header"),
        (without(2), 2, 2, "does not go on from the header: events between them are missing"),
        (without(3), 3, 3, "does not go on from seq 1: events between them are missing"),
        (without(5), 5, None, "events behind seq 3 are missing"),
        (without(LAST), LAST, None, "ends behind seq 4 without its last line: it was cut off"),
        (without(5, LAST), 5, None, "ends behind seq 3"),
        ([WHOLE[0], WHOLE[2], WHOLE[1], *WHOLE[3:]], 2, 2, "events between them are missing or moved"),
        ([*WHOLE[:3], WHOLE[2], *WHOLE[3:]], 4, 2, "stands here twice"),
        ([*WHOLE[:4], WHOLE[2], *WHOLE[4:]], 5, 2, "out of order: it comes behind seq 3"),
        ([*WHOLE[:2], b"no JSON\n", *WHOLE[2:]], 3, None, "no JSON"),
        ([*WHOLE[:2], b"[]\n", *WHOLE[2:]], 3, None, "no JSON object"),
        ([*WHOLE[:2], b'{"a":1,"a":2}\n', *WHOLE[2:]], 3, None, "duplicate key"),
        ([*WHOLE[:2], b"\n", *WHOLE[2:]], 3, None, "no JSON"),
        ([*WHOLE[:2], b"\xff\xfe\n", *WHOLE[2:]], 3, None, "not UTF-8"),
        ([*WHOLE[:2], b"{}\n", *WHOLE[2:]], 3, None, "fields are missing"),
        ([*WHOLE[:2], b"[" * 100_000 + b"\n", *WHOLE[2:]], 3, None, "nested deeper"),
        ([*WHOLE, b"\n"], LAST + 1, None, "text follows"),
        ([*WHOLE, WHOLE[-1]], LAST + 1, None, "text follows"),
        ([*WHOLE, b"more"], LAST + 1, None, "text follows"),
        ([*WHOLE[:-1], WHOLE[-1][:-1]], LAST, None, "the line has no end"),
        ([b"".join(WHOLE)[: len(b"".join(WHOLE)) // 2]], 4, None, "the line has no end"),
        ([], 1, None, "without its last line"),
        ([b"\n"], 1, None, "no JSON"),
    ],
)  # fmt: skip
def test_the_first_fault_is_named(parts: list[bytes], line: int, seq: int | None, says: str) -> None:
    fault = refusal(parts)
    assert (fault.line, fault.seq) == (line, seq), str(fault)
    assert says in fault.detail


def test_a_line_that_never_ends_is_not_read_whole() -> None:
    class Endless(io.RawIOBase):
        """Digits without an end."""

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            buffer[:] = b"1" * len(buffer)
            return len(buffer)

    with pytest.raises(VerificationFailed, match="longer than"):
        verify(io.BufferedReader(Endless()))


def test_memory_is_that_of_a_line_and_not_of_the_file() -> None:
    """Eight payloads of a mebibyte cost no more than one."""

    def peak(count: int) -> int:
        events = [builders.event(seq, payload="x" * MiB) for seq in range(1, count + 1)]
        file = io.BytesIO(forged(events))
        tracemalloc.start()
        verify(file)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(8) < peak(1) * 1.5 < LINE_BYTES_MAX * 2


def forged(events: Sequence[dict[str, Any]]) -> bytes:
    """Return a whole file made by hand, everything in it recomputed."""
    head = chain.CHAIN_START
    documents: list[dict[str, Any]] = [json.loads(WHOLE[0])]
    for event in events:
        head = chain.link(head, event["seq"], event_digest(event))
        proof = {"event_sha256": event_digest(event).hex(), "wal_id": "run.events/3/1", "chain": head.hex()}
        documents.append(event | proof)
    trace = {"status": "succeeded", "event_count": len(events), "chain_head": head.hex()}
    closing = {"event_count": len(events), "chain_head": head.hex(), "finalized": True, "trace": trace, "integrity": {}}
    seal_before, text = SEAL_START, b""
    for document in [*documents, closing]:
        body = json.dumps({name: value for name, value in document.items() if name != "seal"}).encode()[:-1]
        seal_before = seal(seal_before, body)
        text += body + b',"seal":"' + seal_before.hex().encode() + b'"}\n'
    return text


FORGED = forged([builders.event(1), builders.signed(builders.event(2), secret="wrong")])


def test_who_rewrites_a_whole_file_meets_the_head_that_the_reader_has() -> None:
    assert check([FORGED]).event_count == 2
    honest = check(WHOLE).chain_head
    assert "not in the head that was given" in refusal([FORGED], head=honest).detail
    assert check(WHOLE, head=honest.upper()).chain_head == honest


def test_who_rewrites_a_whole_file_has_no_secrets() -> None:
    agents = {"demo-agent": ["older", builders.SECRET]}
    verified = check(WHOLE, agents=agents)
    assert (verified.signatures_verified, verified.signatures_unchecked) == (3, 1)
    fault = refusal([FORGED], agents=agents)
    assert (fault.line, fault.seq) == (3, 2)
    assert "signature" in fault.detail
    assert "an agent with a secret must sign" in refusal(WHOLE, agents={"plain-agent": ["x"]}).detail


@pytest.mark.parametrize("field", ["status", "event_count", "chain_head"])
def test_a_trace_record_of_other_events_is_seen(field: str) -> None:
    *before, last = [json.loads(line) for line in FORGED.splitlines()]
    last["trace"][field] = "other"
    sealed = [split(line) for line in FORGED.splitlines(keepends=True)]
    assert all(sealed)
    body = json.dumps({name: value for name, value in last.items() if name != "seal"}).encode()[:-1]
    seal_before = bytes.fromhex(before[-1]["seal"])
    text = b"".join(FORGED.splitlines(keepends=True)[:-1])
    text += body + b',"seal":"' + seal(seal_before, body).hex().encode() + b'"}\n'
    assert f"the trace record's {field}" in refusal([text]).detail


Mutation = Callable[[bytes], bytes]
FILE = b"".join(WHOLE)
PLACES = st.integers(0, len(FILE))
MUTATIONS = st.one_of(
    st.builds(lambda at, byte: lambda file: file[:at] + bytes([byte]) + file[at + 1 :], PLACES, st.integers(0, 255)),
    st.builds(lambda at, more: lambda file: file[:at] + more + file[at:], PLACES, st.binary(min_size=1, max_size=8)),
    st.builds(lambda at, count: lambda file: file[:at] + file[at + count :], PLACES, st.integers(1, 2000)),
    st.builds(lambda at: lambda file: file[:at], PLACES),
    st.builds(lambda a, b: lambda file: _moved(file, a, b), st.integers(0, LAST - 1), st.integers(0, LAST - 1)),
)


def _moved(file: bytes, source: int, target: int) -> bytes:
    parts = file.splitlines(keepends=True)
    parts.insert(target, parts.pop(source))
    return b"".join(parts)


@given(MUTATIONS)
def test_any_change_of_a_file_is_refused_or_changes_nothing(mutate: Mutation) -> None:
    mutated = mutate(FILE)
    try:
        verify(io.BytesIO(mutated))
    except VerificationFailed as fault:
        assert mutated != FILE
        assert 1 <= fault.line <= mutated.count(b"\n") + 1
    else:
        assert mutated == FILE


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_file_breaks_the_reader(text: bytes) -> None:
    with pytest.raises(VerificationFailed):
        verify(io.BytesIO(text))


def test_seals_differ_line_by_line() -> None:
    seals = [part[1] for line in WHOLE if (part := split(line))]
    assert len(seals) == len(WHOLE)
    assert all(one != other for one, other in pairwise(seals))
