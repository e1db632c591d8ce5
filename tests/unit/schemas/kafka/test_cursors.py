"""Cursors of live streams: what was given is understood, and nothing else."""

import base64
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.kafka import cursors
from schemas.kafka.cursors import CURSOR_CHARACTERS_MAX, CursorInvalid

TOPIC = "AbCdEfGhIjKlMnOpQrStUv"
OTHER = "-_-_-_-_-_-_-_-_-_-_-_"


def text_of(value: object) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(value)).decode().rstrip("=")


places = st.dictionaries(st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1), max_size=20)


@given(st.dictionaries(st.sampled_from([TOPIC, OTHER]), places))
def test_what_is_encoded_is_decoded(cursor: dict[str, dict[int, int]]) -> None:
    assert cursors.decode(cursors.encode(cursor)) == cursor


def test_equal_cursors_have_one_text() -> None:
    one, same = {TOPIC: {1: 5, 0: 7}, OTHER: {}}, {OTHER: {}, TOPIC: {0: 7, 1: 5}}
    assert cursors.encode(one) == cursors.encode(same)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "no base64!",
        text_of([1]),
        text_of({TOPIC: {0: -1}}),
        text_of({TOPIC: {0: 2**63}}),
        text_of({TOPIC: {2**31: 0}}),
        text_of({TOPIC: {"0": 0}}),
        text_of({"short": {0: 0}}),
        text_of({"/" * 22: {0: 0}}),
        text_of({TOPIC: {1: 0, 0: 0}}),  # not in order
        text_of({f"{number:022}": {} for number in range(3)}),
        text_of({TOPIC: {0: 0}}) + "=",
        text_of({TOPIC: {0: 0}}) + "AA",
        "A" * (CURSOR_CHARACTERS_MAX + 1),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(CursorInvalid):
        cursors.decode(text)


@given(st.text())
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    with suppress(CursorInvalid):
        assert cursors.encode(cursors.decode(text)) == text


def test_a_topic_id_is_written_as_kafka_spells_it() -> None:
    assert cursors.topic_id("c29Q9XOfRCe/U5YfI4DLU+==") == "c29Q9XOfRCe_U5YfI4DLU-"
