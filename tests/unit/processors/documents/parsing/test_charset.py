"""The character set of a text, in the order in which its signs are believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.documents.parsing.charset import decoded

# ruff: noqa: RUF001  Cyrillic letters
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. " * 5


@pytest.mark.parametrize(
    ("content", "declared", "charset", "found_by"),
    [
        (b"\xef\xbb\xbfa", "cp1251", "utf-8", "mark"),
        ("\ufeffa".encode("utf-32"), None, "utf-32-le", "mark"),
        ("grün".encode(), "iso-8859-1", "utf-8", "utf-8"),
        ("привет".encode("koi8-r"), "KOI8-R", "koi8-r", "declared"),
        ("grün".encode("cp1252"), "us-ascii", "cp1252", "declared"),
        ("grün".encode("cp1252"), "zlib", "cp1252", "fallback"),
        ("grün".encode("cp1252"), "unicode_escape", "cp1252", "fallback"),
        ("grün".encode("cp1252"), "no\x00such", "cp1252", "fallback"),
        ("日本語".encode("shift_jis"), "euc-jp", "cp1252", "fallback"),
        ("grün".encode("cp1252"), "utf-7", "cp1252", "fallback"),
        (RUSSIAN.encode("cp1251"), None, "cp1251", "guessed"),
    ],
)
def test_signs_are_believed_in_their_order(content: bytes, declared: str | None, charset: str, found_by: str) -> None:
    found = decoded(content, declared=declared)
    assert (found.charset, found.found_by) == (charset, found_by)


@given(st.binary(max_size=600), st.none() | st.text(max_size=20) | st.sampled_from(["utf-7", "hex", "utf-16", "idna"]))
def test_any_bytes_are_a_text(content: bytes, declared: str | None) -> None:
    decoded(content, declared=declared).text.encode(errors="strict")
