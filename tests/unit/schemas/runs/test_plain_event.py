"""The short way reads and writes what fastavro does, or nothing."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Poison
from schemas.kafka import registry
from schemas.kafka.codec import FRAME, MAGIC
from schemas.objects.references import PayloadRef
from schemas.runs import plain_event
from schemas.runs.codec import RUN_CODEC
from schemas.runs.records import Record, RunEvent
from tests.support import builders

# An event of empty texts and no numbers: a byte a field, and the digest.
EMPTY = bytes(11) + bytes(range(32))
SEQ_AT, KEY_AT, PAYLOAD_AT, REFERENCE_AT = 2, 7, 8, 9

# Lengths of one byte, of two and of three, and characters of one byte to four.
TEXTS = st.text(max_size=80) | st.sampled_from(
    ["x" * 63, "x" * 64, "é" * 64, "x" * 8191, "x" * 8192, "\U0001f30a" * 99]
)
EVENTS = st.builds(
    RunEvent,
    tenant=TEXTS,
    run_id=TEXTS,
    seq=st.integers(-(2**62), 2**62 - 1),
    t=TEXTS,
    actor=TEXTS,
    type=TEXTS,
    agent_id=TEXTS,
    idempotency_key=st.none() | TEXTS,
    payload=st.none() | TEXTS,
    meta=TEXTS,
    event_sha256=st.binary(min_size=32, max_size=32),
)


def read_by_fastavro(body: bytes) -> Record | None:
    """Return what the long way makes of *body*; None if it is poison."""
    try:
        return RUN_CODEC.decode_by_schema(FRAME.pack(MAGIC, plain_event.SCHEMA_ID) + body)
    except Poison:
        return None


def test_an_event_of_nothing_is_read() -> None:
    assert plain_event.read_event(EMPTY, 0) == read_by_fastavro(EMPTY)
    assert plain_event.read_event(EMPTY, 0) is not None


@given(EVENTS)
def test_an_event_is_read_whole(event: RunEvent) -> None:
    assert plain_event.read_event(RUN_CODEC.encode_by_schema(event), FRAME.size) == event


@given(EVENTS)
def test_an_event_is_written_as_fastavro_does(event: RunEvent) -> None:
    assert plain_event.write_event(event) == RUN_CODEC.encode_by_schema(event)[FRAME.size :]


@pytest.mark.parametrize("seq", [0, 63, 64, -64, -65, 2**63 - 1, -(2**63)])
def test_every_number_that_avro_has_is_written(seq: int) -> None:
    event = read_by_fastavro(EMPTY)
    assert isinstance(event, RunEvent)
    event = msgspec.structs.replace(event, seq=seq)
    assert plain_event.write_event(event) == RUN_CODEC.encode_by_schema(event)[FRAME.size :]


@pytest.mark.parametrize("wrong", [{"seq": 2**63}, {"seq": -(2**63) - 1}, {"event_sha256": bytes(31)}], ids=str)
def test_what_the_schema_cannot_hold_is_left_to_fastavro(wrong: dict[str, Any]) -> None:
    event = msgspec.structs.replace(builders.run_event(builders.event()), **wrong)
    assert plain_event.write_event(event) is None
    with pytest.raises((OverflowError, ValueError)):
        RUN_CODEC.encode(event)


def test_a_payload_that_is_kept_elsewhere_is_left_to_fastavro() -> None:
    event = builders.run_event(builders.event())
    reference = PayloadRef(key="k", size_bytes=1, sha256=bytes(32))
    apart = msgspec.structs.replace(event, payload=None, payload_ref=reference)
    assert plain_event.write_event(apart) is None
    assert RUN_CODEC.decode(RUN_CODEC.encode(apart)) == apart


@given(EVENTS, st.data())
def test_whatever_is_wrong_with_it_is_left_to_fastavro(event: RunEvent, data: st.DataObject) -> None:
    body = bytearray(RUN_CODEC.encode_by_schema(event)[FRAME.size :])
    at = data.draw(st.integers(0, len(body) - 1))
    length = data.draw(st.integers(0, 3))
    body[at : at + length] = data.draw(st.binary(max_size=3))
    found = plain_event.read_event(bytes(body), 0)
    assert found is None or found == read_by_fastavro(bytes(body))


@given(st.binary(max_size=300))
def test_random_bytes_are_left_to_fastavro(body: bytes) -> None:
    found = plain_event.read_event(body, 0)
    assert found is None or found == read_by_fastavro(body)


def with_bytes(at: int, *, instead: bytes) -> bytes:
    """Return the body of `EMPTY` with other bytes for that at *at*."""
    return EMPTY[:at] + instead + EMPTY[at + 1 :]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        EMPTY[:-1],
        EMPTY + b"\0",
        with_bytes(0, instead=b"\x01") + b"\0",
        b"\x01" + EMPTY[3:],  # as if no byte had been read: the next two fields would be found in it again
        b"\xff" * 1_000_000,
        with_bytes(SEQ_AT, instead=b"\xff" * 9 + b"\x7f"),
        with_bytes(KEY_AT, instead=b"\x04"),
        with_bytes(PAYLOAD_AT, instead=b"\x01"),
        with_bytes(REFERENCE_AT, instead=b"\x04"),
        with_bytes(REFERENCE_AT, instead=b"\x02\0\0" + bytes(32)),
        with_bytes(0, instead=b"\x02\xff"),
    ],
    ids=[
        *("empty", "cut", "trailing", "negative length", "read again", "endless length", "beyond 64 bits"),
        *("no branch of a key", "no branch of a payload", "no branch of a reference", "kept elsewhere", "not UTF-8"),
    ],
)
def test_what_is_not_plain_is_left_to_fastavro(body: bytes) -> None:
    assert plain_event.read_event(body, 0) is None


def test_what_the_gateway_writes_is_what_is_read_here() -> None:
    """A new version of RunEvent needs a short way of its own: without one, everything takes the long way."""
    assert registry.last_released()["tidegate.runs.RunEvent"].id == plain_event.SCHEMA_ID
