"""
The short way for plain JSON: decoded and brought into canonical form by msgspec, ten times as fast as the
strict decoder and the RFC 8785 writer, which remain the judges of everything else.

A text is plain if it is provably the same either way. No backslash: then no string holds a quote, NUL or
surrogate, and quotes count keys and strings, so that equal counts before and after show that no duplicate key
was dropped. No deep nesting. No number that doubles, 64 bits or the two notations could treat differently. No
character beyond U+FFFF, which UTF-8 and UTF-16 sort differently.
"""

import re
from typing import Any

import msgspec

from schemas.strictjson import DEPTH_MAX

_DECODE = msgspec.json.Decoder().decode
_ENCODE = msgspec.json.Encoder(order="sorted").encode
# In compact JSON a number follows one of these; within a string the same only sends a body the long way.
# Refused: 19 digits, an integral double, a double below 1e-4, an exponent.
_DOUBTFUL_NUMBER = re.compile(rb"[:,\[]-?[0-9](?:[0-9]{18}|[0-9]*\.0[,}\]]|\.0000|[0-9.]*[eE])")
# msgspec needs 10 us for 1e300 and lets no other thread run meanwhile: 20 s for 10 MiB of them.
_EXPONENT = re.compile(rb"[:,\[][ \t\r\n]*+-?[0-9][0-9.]*+[eE]")
_EXPONENTS_UNSEEN_BYTES_MAX = 8 * 1024  # so short a body takes 14 ms at most, and the search 5 ns a byte of any
_SEARCH_BYTES = 1024 * 1024  # at once, for the same reason: 10 MiB of digits would take half a second
_NUMBER_BYTES_MAX = 32  # none is written longer
_FOUR_BYTE_CHARACTER = re.compile(rb"[\xf0-\xf4]")


def read_plain(body: bytes) -> tuple[dict[str, Any], bytes] | None:
    """Return the object in *body* and its canonical form; None where the long way has to judge."""
    if b"\\" in body or body.count(b"[") + body.count(b"{") > DEPTH_MAX:
        return None
    if len(body) > _EXPONENTS_UNSEEN_BYTES_MAX and _finds(_EXPONENT, body):
        return None
    try:
        document = _DECODE(body)
        canonical = _ENCODE(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(document, dict) or canonical.count(b'"') != body.count(b'"'):
        return None
    if _finds(_DOUBTFUL_NUMBER, canonical) or (not canonical.isascii() and _FOUR_BYTE_CHARACTER.search(canonical)):
        return None
    return document, canonical


def encode_plain(value: object) -> bytes:
    """Return the canonical form of a part of a plain object, or of an object made of such parts."""
    return _ENCODE(value)


def _finds(pattern: re.Pattern[bytes], text: bytes) -> bool:
    for start in range(0, len(text), _SEARCH_BYTES):  # nearly always once: a generator costs a third more
        if pattern.search(text, start, start + _SEARCH_BYTES + _NUMBER_BYTES_MAX):
            return True
    return False
