"""Lists of documents, cut into the texts of their elements, in bounded memory."""

import json
import re
from collections.abc import Sequence

import msgspec

from schemas.errors import Fault, Invalid
from schemas.strictjson import NotJson

# A list with more commas may be one of millions of elements, of a hundred bytes of memory each; most stand in payloads.
COMMAS_MAX = 100_000
LINES_MAX = 100_000  # the blank ones included
CONTAINERS_MAX = 1_000_000  # brackets, in effect; each takes 60 bytes of memory and more, and 10 MiB hold 3 million

_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_SKIM = json.JSONDecoder(parse_int=len, parse_float=len)  # finds where a value ends; what it is, others judge
_BLANKS = re.compile(r"[ \t\r\n]*")


def text_of(body: bytes) -> str:
    """Return *body* as text. Raises NotJson or Invalid: not UTF-8, or too many arrays and objects."""
    if body.count(b"[") + body.count(b"{") > CONTAINERS_MAX:
        raise Invalid([Fault(pointer="", detail=f"more than {CONTAINERS_MAX} arrays and objects")])
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8 at byte {error.start}") from None


def split_list(body: bytes, *, count_max: int) -> Sequence[bytes]:
    """
    Return the text of each element of the JSON array in *body*.

    Raises:
        NotJson: it does not parse.
        Invalid: no array, or one of too many elements or none.
    """
    if body.count(b",") > COMMAS_MAX:
        return _bounded(_split_long_list(text_of(body), count_max), count_max)
    try:
        elements = _LIST.decode(body)
    except msgspec.ValidationError:
        raise Invalid([Fault(pointer="", detail="a batch is a list")]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJson(str(error)) from None
    return _bounded([bytes(element) for element in elements], count_max)


def _split_long_list(text: str, count_max: int) -> Sequence[bytes]:
    """Split as `split_list` does, an element at a time, up to one more than a batch may hold."""
    at = _after_blanks(text, 0)
    if text[at : at + 1] != "[":
        raise Invalid([Fault(pointer="", detail="a batch is a list")])
    elements: list[bytes] = []
    while len(elements) <= count_max:
        start = _after_blanks(text, at + 1)
        try:
            _, end = _SKIM.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            raise NotJson(str(error)) from None
        elements.append(text[start:end].encode())
        at = _after_blanks(text, end)
        if text[at : at + 1] == "]":
            if _after_blanks(text, at + 1) != len(text):
                raise NotJson("something follows the list")
            break
        if text[at : at + 1] != ",":
            raise NotJson(f"neither a comma nor the end of the list at character {at}")
    return elements


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found is not None else at


def split_lines(body: bytes, *, count_max: int) -> Sequence[bytes]:
    """Return the lines of *body* that are not blank. Raises Invalid if there are too many or none."""
    if body.count(b"\n") > LINES_MAX:
        raise Invalid([Fault(pointer="", detail=f"more than {LINES_MAX} lines, blank ones included")])
    return _bounded([line for line in body.split(b"\n") if line.strip()], count_max)


def _bounded(events: Sequence[bytes], count_max: int) -> Sequence[bytes]:
    if not 1 <= len(events) <= count_max:
        raise Invalid([Fault(pointer="", detail=f"a batch holds 1 to {count_max} elements")])
    return events
