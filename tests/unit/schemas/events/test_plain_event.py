"""The short way reads and writes user events as fastavro does, or nothing."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Poison
from schemas.events import plain_event
from schemas.events.codec import EVENT_CODEC
from schemas.events.records import Authenticated, UserEvent
from schemas.kafka import registry
from schemas.kafka.codec import FRAME, MAGIC
from tests.support.builders import user_event

# Lengths of one byte, of two and of three, and characters of one byte to four.
TEXTS = st.text(max_size=80) | st.sampled_from(["x" * 63, "x" * 64, "\u00e9" * 64, "x" * 8192, "\U0001f30a" * 99])
MAYBE = st.none() | TEXTS
EVENTS = st.builds(
    UserEvent,
    **dict.fromkeys(("tenant", "event_id", "source", "type", "payload"), TEXTS),
    **dict.fromkeys(("user_id", "anonymous_id", "session_id", "run_id", "partition_key", "name"), MAYBE),
    **dict.fromkeys(("occurred_at", "context", "submitted_by", "task_id"), MAYBE),
    authenticated=st.sampled_from(Authenticated),
    user_verified=st.booleans(),
    event_sha256=st.binary(min_size=32, max_size=32),
)


def read_by_fastavro(body: bytes) -> UserEvent | None:
    """Return what the long way makes of *body*; None if it is poison."""
    try:
        return EVENT_CODEC.decode_by_schema(FRAME.pack(MAGIC, plain_event.SCHEMA_ID) + body)
    except Poison:
        return None


@given(EVENTS)
def test_an_event_is_read_and_written_as_fastavro_does(event: UserEvent) -> None:
    framed = EVENT_CODEC.encode_by_schema(event)
    assert plain_event.write_event(event) == framed[FRAME.size :]
    assert plain_event.read_event(framed, FRAME.size) == event


@given(EVENTS, st.data())
def test_whatever_is_wrong_with_it_is_left_to_fastavro(event: UserEvent, data: st.DataObject) -> None:
    body = bytearray(EVENT_CODEC.encode_by_schema(event)[FRAME.size :])
    at = data.draw(st.integers(0, len(body) - 1))
    length = data.draw(st.integers(0, 3))
    body[at : at + length] = data.draw(st.binary(max_size=3))
    found = plain_event.read_event(bytes(body), 0)
    assert found is None or found == read_by_fastavro(bytes(body))


@pytest.mark.parametrize("body", [b"", b"\xff" * 100_000, b"\1" * 60, bytes(14) + b"\6\0" + bytes(34)])
def test_what_is_not_plain_is_left_to_fastavro(body: bytes) -> None:
    assert plain_event.read_event(body, 0) is None


def test_a_digest_of_another_size_is_left_to_fastavro() -> None:
    assert plain_event.write_event(msgspec.structs.replace(user_event(), event_sha256=bytes(31))) is None


def test_what_the_gateway_writes_is_what_is_read_here() -> None:
    """A new version of UserEvent needs a short way of its own: without one, everything takes the long way."""
    assert registry.last_released()["tidegate.events.UserEvent"].id == plain_event.SCHEMA_ID
