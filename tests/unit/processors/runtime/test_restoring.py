"""A dead letter that comes back as the record that it was."""

import pytest

from processors.runtime.dead_letters import dead_letter, deferral
from processors.runtime.restoring import restore
from schemas.errors import Poison, Reason
from schemas.kafka import headers
from schemas.kafka.topics import LETTER_BYTES_MAX
from schemas.runs.topics import PERSISTENCE
from tests.support.builders import Raw

WHY = (Reason.NOT_STORABLE, "why")


def letter_of(record: Raw) -> Raw:
    """Return the dead letter of *record*, as it is read again."""
    letter = dead_letter(record, *WHY, group=PERSISTENCE)
    by_name = [(name, value if isinstance(value, bytes) else value.encode()) for name, value in letter.headers]
    return Raw(topic=PERSISTENCE.redrive.name, key=letter.key, value=letter.value, headers=by_name)


def test_a_record_comes_back_at_its_place_with_its_own_headers() -> None:
    record = Raw(partition=3, offset=42, key=b"run-1", value=b"bytes", headers=[("seq", b"7")])
    restored = restore(letter_of(record))
    assert (restored.topic, restored.partition, restored.offset) == (record.topic, 3, 42)
    assert (restored.key, restored.value, restored.headers) == (b"run-1", b"bytes", [("seq", b"7")])


def test_what_a_producer_says_in_the_letters_own_headers_is_not_believed() -> None:
    forged: list[tuple[str, bytes | None]] = [(name, b"9") for name in sorted(headers.OF_DEAD_LETTERS)]
    letter = letter_of(Raw(partition=3, offset=42, headers=[*forged, ("seq", b"7")]))
    told = headers.OF_DEAD_LETTERS - {headers.CUT_PARTS, headers.CUT_VALUE_BYTES, headers.CUT_VALUE_SHA256}
    assert sorted(name for name, _ in letter.headers) == sorted([*told, "seq"])
    assert headers.find(letter.headers, headers.ORIGINAL_OFFSET) == b"42"


def test_each_time_counts_as_an_attempt() -> None:
    once = letter_of(Raw())
    assert [restore(once).attempt, restore(letter_of(restore(once))).attempt] == [1, 2]


@pytest.mark.parametrize("missing", [headers.ORIGINAL_TOPIC, headers.ORIGINAL_OFFSET, headers.ATTEMPT])
def test_what_does_not_say_where_it_was_is_poison(missing: str) -> None:
    letter = letter_of(Raw())
    letter.headers = [each for each in letter.headers if each[0] != missing]
    with pytest.raises(Poison, match=missing):
        restore(letter)


@pytest.mark.parametrize("name", [headers.ORIGINAL_PARTITION, headers.ORIGINAL_OFFSET, headers.ATTEMPT])
@pytest.mark.parametrize("value", [b"", b"-1", b"x", b"9" * 5000])
def test_a_place_that_is_no_number_is_poison(name: str, value: bytes) -> None:
    letter = letter_of(Raw())
    letter.headers = [(each, value if each == name else its) for each, its in letter.headers]
    with pytest.raises(Poison, match=name):
        restore(letter)


def test_a_letter_without_its_bytes_comes_back_without_them_and_keeps_their_digest() -> None:
    """It is a dead letter again: nobody takes what is left of it for the record."""
    letter = dead_letter(Raw(key=b"run-1", value=bytes(LETTER_BYTES_MAX)), *WHY, group=PERSISTENCE)
    restored = restore(Raw(key=letter.key, value=letter.value, headers=letter.headers))  # type: ignore[arg-type]
    again = dead_letter(restored, *WHY, group=PERSISTENCE)
    names = (headers.CUT_PARTS, headers.CUT_VALUE_BYTES, headers.CUT_VALUE_SHA256)
    assert [dict(letter.headers)[name] for name in names] == [dict(again.headers)[name] for name in names]
    assert dict(again.headers)[headers.CUT_VALUE_BYTES] == b"%d" % LETTER_BYTES_MAX


@pytest.mark.parametrize(
    ("record", "parts", "key"),
    [
        (Raw(key=b"k", value=bytes(LETTER_BYTES_MAX)), b"value", b"k"),
        (Raw(key=bytes(LETTER_BYTES_MAX), value=b"v"), b"value key", None),
        (Raw(key=b"k", value=b"v", headers=[("x", bytes(LETTER_BYTES_MAX))]), b"value headers", b"k"),
        (Raw(key=b"k", value=None, headers=[("x" * 1000, b"")] * 4000), b"value headers", b"k"),
    ],
    ids=["value", "key", "header", "headers"],
)
def test_whatever_of_a_record_is_too_large_its_letter_is_small(record: Raw, parts: bytes, key: bytes | None) -> None:
    letter = dead_letter(record, *WHY, group=PERSISTENCE)
    assert (dict(letter.headers)[headers.CUT_PARTS], letter.key, letter.value) == (parts, key, None)
    assert sum(len(name) + len(value) for name, value in letter.headers) < 4096
    assert deferral(record, *WHY, group=PERSISTENCE) is None
