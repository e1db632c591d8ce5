"""Borders between the characters that people see."""

import pytest

from processors.documents.graphemes import is_border, last_border

WHOLE = [
    "e\u0301\u0323",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f44d\U0001f3fd",
    "\u2764\ufe0f",
    "\U0001f1e9\U0001f1ea",
    "\u0915\u094d\u0937\u093f",
    "\u1112\u1161\u11ab",
    "\u0e01\u0e33",
    "\uff76\uff9e",
    "\r\n",
    "\U0001f3f4\U000e0067\U000e0062\U000e007f",
]


@pytest.mark.parametrize("character", WHOLE)
def test_a_character_is_not_cut(character: str) -> None:
    assert not any(is_border(character, at) for at in range(1, len(character)))
    text = f"a{character}b"
    assert is_border(text, 1)
    assert is_border(text, len(text) - 1)


def test_flags_are_counted_in_pairs() -> None:
    text = "\U0001f1e9\U0001f1ea" * 3
    assert [at for at in range(len(text) + 1) if is_border(text, at)] == [0, 2, 4, 6]


def test_letters_of_any_script_have_borders_between_them() -> None:
    for text in ("ab", "日本", "жд", "אב", "한국"):
        assert is_border(text, 1)


def test_a_character_longer_than_the_room_is_cut_at_its_end() -> None:
    assert last_border("a" + "\u0301" * 9, 5, since=0) == 5
