"""Texts in normal form, and the way back to where they came from."""

import unicodedata
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.documents.texts import normalised

# Characters that rewrite, join or reorder, among plain ones.
HARD = st.text(
    st.sampled_from(
        "ab \n\r\x00é\u00ad\u200b\u200c\u200d\u2060\ufeff\ud800\udc00\u0301\u0323\u0344\u0f73"
        "\u0958\u212b\u1100\u1161\u11a8\uac00\u09c7\u09be\ufb1d\U0001d15e\U00016d67"
    ),
    max_size=40,
)
ANY = st.text(st.characters(), max_size=40) | HARD


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a\r\nb\rc\n", "a\nb\nc\n"),
        ("e\u0301", "é"),
        ("e\u00ad\u0301", "é"),
        ("soft\u00adhyphen\u200b", "softhyphen"),
        ("nul\x00 \ud800", "nul "),
        ("\ufeffstart", "start"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
        ("\r\u200b\n", "\n"),
    ],
)
def test_a_text_has_one_form(source: str, text: str) -> None:
    assert normalised(source).text == text


@given(ANY)
def test_a_text_in_normal_form_stays_as_it_is(source: str) -> None:
    text = normalised(source).text
    again = normalised(text)
    assert again.text == text
    assert [again.source_offset(at) for at in range(len(text) + 1)] == list(range(len(text) + 1))


@given(ANY)
def test_the_form_is_nfc_and_fit_for_postgres(source: str) -> None:
    text = normalised(source).text
    assert unicodedata.is_normalized("NFC", text)
    assert not set(text) & set("\r\x00\u00ad\u200b\u2060\ufeff")
    text.encode()  # no surrogate


@given(ANY)
def test_equivalent_texts_have_one_form(source: str) -> None:
    """Decomposed by another system, it is the same text."""
    kept = "".join(each for each in source if not "\ud800" <= each <= "\udfff")
    assert normalised(unicodedata.normalize("NFD", kept)).text == normalised(kept).text


@given(ANY)
def test_offsets_lead_back_to_what_they_came_from(source: str) -> None:
    found = normalised(source)
    for at, character in enumerate(found.text):
        if character < "\u0300":  # nothing before it can join it
            assert normalised(source[: found.source_offset(at)]).text == found.text[:at]
    assert found.source_offset(len(found.text)) == (len(source))


@given(ANY)
def test_offsets_never_go_backwards(source: str) -> None:
    found = normalised(source)
    offsets = [found.source_offset(at) for at in range(len(found.text) + 1)]
    assert offsets == sorted(offsets)
    assert all(0 <= offset <= len(source) for offset in offsets)


@pytest.mark.parametrize("marks", ["\u0301\u0323", "\u0f73", "\u0344\u0323"])
def test_a_million_marks_take_no_longer_than_other_texts(marks: str) -> None:
    source = "a" + marks * (300_000 // len(marks))
    began_s = process_time()
    text = normalised(source).text
    assert process_time() - began_s < 20.0
    assert len(text) >= 300_000 - 1


def test_the_map_of_a_long_text_is_sparse() -> None:
    found = normalised("word " * 100_000 + "\r\n" + "word " * 100_000)
    assert found.source_offset(500_001) == 500_002
    assert found.text[500_001:500_005] == "word"
