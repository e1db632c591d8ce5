"""
TOON bodies (toonformat.dev, specification 4.4) to the JSON text that they stand for, which is then judged, signed,
digested and kept like any other.

Why the text and not the value: numbers keep their digits, and there is one list of rules. A number in TOON is
spelled like one in JSON, so it is handed on as it stands. What TOON itself forbids (a duplicate key, a surrogate
escape, a wrong count) does not parse; the rest of the rules are the judge's.

Why a bound on values: the library is Python, makes an object of several hundred bytes for each line and takes
microseconds for each; 10 MiB of short lines would be 1 GB and half a minute. Why a bound on keys: a table names each
key once and repeats it in each row.
"""

import re
from typing import Any

import msgspec
import toon_format
from toon_format import _decoder

from gateway.errors import EventTooLarge, NotToon
from schemas.errors import Fault, Invalid
from schemas.strictjson import DEPTH_MAX

VALUES_MAX = 100_000  # lines, and delimiters outside quotes
DETAIL_CHARACTERS_MAX = 200  # an error quotes the document, and a key may be megabytes long

_INT64_DIGITS = 18  # so many always fit
_DELIMITERS = (b",", b"\t", b"|")
_STRING = re.compile(rb'"(?:[^"\\\n]++|\\[^\n])*+"')

# The library's own pattern for a string keeps a way back for each of its characters: 130 bytes a character, and a
# second per 10 MiB in one call that lets no other thread run. This one matches the same and keeps none.
_decoder._QUOTED = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)  # noqa: SLF001


def json_of(toon: bytes, *, bytes_max: int) -> bytes:
    """
    Return the JSON text that *toon* stands for. Blocks: 10 MiB take seconds.

    Raises:
        NotToon: it does not parse.
        Invalid: it is nested far deeper than JSON may be.
        EventTooLarge: more than `VALUES_MAX` values, or more than *bytes_max* as JSON.
    """
    if _count_values(toon) > VALUES_MAX:
        raise EventTooLarge(f"TOON of at most {VALUES_MAX} lines and delimiters; larger documents are taken as JSON")
    try:
        text = toon.decode()
    except UnicodeDecodeError as error:
        raise NotToon(f"not UTF-8 at byte {error.start}") from None
    value = _decode(text, bytes_max)
    json = msgspec.json.encode(value)
    if len(json) > bytes_max:
        raise _too_large(bytes_max)
    return json


def _decode(text: str, bytes_max: int) -> Any:
    try:
        return toon_format.loads(text, parse_int=_integer, parse_float=_verbatim, object_hook=_Keys(bytes_max))
    except toon_format.ToonDecodeError as error:
        if isinstance(error.__context__, RecursionError):
            raise Invalid([Fault(pointer="", detail=f"nested deeper than {DEPTH_MAX} levels")]) from None
        place = f" at line {error.line}" if error.line is not None else ""
        raise NotToon(f"{error.msg[:DETAIL_CHARACTERS_MAX]}{place}") from None


class _Keys:
    """A counter of the characters in the keys of each object; it stops at *bytes_max*."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._seen_bytes = 0

    def __call__(self, made: dict[str, Any]) -> dict[str, Any]:
        self._seen_bytes += sum(map(len, made))
        if self._seen_bytes > self._bytes_max:
            raise _too_large(self._bytes_max)
        return made


def _integer(digits: str) -> int | msgspec.Raw:
    return int(digits) if len(digits) <= _INT64_DIGITS else _verbatim(digits)


def _verbatim(digits: str) -> msgspec.Raw:
    return msgspec.Raw(digits.encode())


def _count_values(toon: bytes) -> int:
    lines, delimiters = toon.count(b"\n"), _count_delimiters(toon)
    if lines <= VALUES_MAX < lines + delimiters:  # perhaps not: those in strings separate nothing
        for strings, string in enumerate(_STRING.finditer(toon)):
            if strings > VALUES_MAX:
                return strings
            delimiters -= _count_delimiters(string.group())
    return lines + delimiters


def _count_delimiters(toon: bytes) -> int:
    return sum(toon.count(delimiter) for delimiter in _DELIMITERS)


def _too_large(bytes_max: int) -> EventTooLarge:
    return EventTooLarge(f"a body that is at most {bytes_max} bytes as JSON")
