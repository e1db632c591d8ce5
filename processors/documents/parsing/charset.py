"""
The character set of a text: a byte order mark, then UTF-8 if all bytes are, then what is declared, then a guess.

UTF-8 comes before the declaration, which is wrong more often than bytes are UTF-8 by accident.
"""

import codecs
import re
from dataclasses import dataclass

from charset_normalizer import from_bytes

GUESSED_FROM_BYTES = 256  # fewer tell nothing
GUESSED_BY_BYTES = 1024 * 1024  # more only take time
FALLBACK = "cp1252"

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Names of Python's codecs for texts; others of its codecs decompress or run escapes, and UTF-7 hides what it says.
_OF_TEXTS = re.compile(
    r"ascii|utf-?(8|16|32)|iso8859|iso2022|cp\d|koi8|mac|big5|gb|euc|shift|tis|johab|ptcp|hz$|kz",
)
# As browsers read them, which is how such pages were written.
_READ_AS = {"iso8859-1": FALLBACK, "ascii": FALLBACK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A text, its character set, and how that was found: mark, utf-8, declared, guessed or fallback."""

    text: str
    charset: str
    found_by: str


def decoded(content: bytes, *, declared: str | None = None) -> Decoded:
    """Return *content* as text; it always is one, if a wrong one."""
    for mark, charset in _MARKS:
        if content.startswith(mark):
            text = content[len(mark) :].decode(charset, errors="replace")
            return Decoded(text=text, charset=charset, found_by="mark")
    if (utf8 := _strictly(content, "utf-8")) is not None:
        return Decoded(text=utf8, charset="utf-8", found_by="utf-8")
    name = _known(declared)
    if name is not None and (read := _strictly(content, name)) is not None:
        return Decoded(text=read, charset=name, found_by="declared")
    if len(content) >= GUESSED_FROM_BYTES:
        best = from_bytes(content[:GUESSED_BY_BYTES]).best()
        guess = None if best is None else _known(best.encoding)
        if guess is not None:
            return Decoded(text=content.decode(guess, errors="replace"), charset=guess, found_by="guessed")
    return Decoded(text=content.decode(FALLBACK, errors="replace"), charset=FALLBACK, found_by="fallback")


def _known(name: str | None) -> str | None:
    """Return the name of Python's codec for a text, if there is one."""
    if not name:
        return None
    try:
        found = codecs.lookup(name.strip().strip("\"'")).name
    except (LookupError, ValueError, UnicodeError):  # of names that are no ASCII or hold NUL
        return None
    return _READ_AS.get(found, found) if _OF_TEXTS.match(found) else None


def _strictly(content: bytes, charset: str) -> str | None:
    try:
        return content.decode(charset)
    except UnicodeError:
        return None
