"""A dead letter that comes back as the record that it was."""

import pytest

from processors.runtime.dead_letters import dead_letter
from processors.runtime.redrive import restore
from schemas import headers
from schemas.errors import Poison, Reason
from schemas.topics import PERSISTENCE
from tests.builders import Raw

POISON = Poison(Reason.NOT_STORABLE, "why")


def letter_of(record: Raw) -> Raw:
    """The dead letter of *record*, as it is read again."""
    letter = dead_letter(record, POISON, group=PERSISTENCE)
    bears = [(name, value if isinstance(value, bytes) else value.encode()) for name, value in letter.headers]
    return Raw(topic=PERSISTENCE.redrive.name, key=letter.key, value=letter.value, headers=bears)


def test_a_record_comes_back_at_its_place_with_its_own_headers() -> None:
    record = Raw(partition=3, offset=42, key=b"run-1", value=b"bytes", headers=[("seq", b"7")])
    restored = restore(letter_of(record))
    assert (restored.topic, restored.partition, restored.offset) == (record.topic, 3, 42)
    assert (restored.key, restored.value, restored.headers) == (b"run-1", b"bytes", [("seq", b"7")])


def test_what_a_producer_says_in_the_letters_own_headers_is_not_believed() -> None:
    forged: list[tuple[str, bytes | None]] = [(name, b"9") for name in sorted(headers.OF_DEAD_LETTERS)]
    letter = letter_of(Raw(partition=3, offset=42, headers=[*forged, ("seq", b"7")]))
    assert sorted(name for name, _ in letter.headers) == sorted([*headers.OF_DEAD_LETTERS, "seq"])
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
