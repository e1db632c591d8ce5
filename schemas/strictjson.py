"""
JSON that keeps its meaning everywhere: RFC 8259 less what implementations disagree about.

Refused: duplicate keys, NaN and Infinity, numbers that overflow to them, integers beyond 64 bits,
NUL and lone surrogates in strings, nesting deeper than `DEPTH_MAX`.

Why two passes: the first uses the C scanner with hooks that stop at the first suspect value, and
nearly every document ends there; only a document at fault is decoded again to name each fault's place.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from schemas.errors import Fault, Invalid

DEPTH_MAX = 64
PART_DEPTH_MAX = DEPTH_MAX - 1  # of a part of an event, which is one level inside it
INT_DIGITS_MAX = 20  # digits and sign of -2**63
INT_MIN = -(2**63)
INT_MAX = 2**64 - 1
NUL_FAULT = "NUL character"
FAULTS_MAX = 100  # an answer lists at most so many faults
NAME_CHARACTERS_MAX = 100  # of each name in a pointer: a name can be as long as the body

_SUSPECT_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class NotJson(ValueError):
    """The text is no JSON document at all. Never retry it."""


class _Suspect(Exception):
    """The first pass met something that the second has to place."""


@dataclass(frozen=True, slots=True)
class _Wrong:
    detail: str


# Its step in the pointer, its value, and whether its name stood in the object before.
_Member = tuple[str | int, object, bool]


class _Pairs(list[tuple[str, object]]):
    """An object as it was written, duplicates included."""


def decode(text: str, *, depth_max: int = DEPTH_MAX) -> object:
    """
    Decode *text* into dicts, lists, str, int, float, bool and None.

    *depth_max* differs where *text* is a part of a document, or wraps one.

    Raises:
        NotJson: the text does not parse.
        Invalid: it parses but breaks a rule above; every fault is listed with its pointer.
    """
    try:
        value = _scan(_FIRST_PASS, text, depth_max)
    except _Suspect:
        raise Invalid(_place_faults(text, depth_max)) from None
    # Escapes can hide a NUL or a lone surrogate; deep nesting needs many brackets.
    if _SUSPECT_ESCAPE.search(text) or text.count("[") + text.count("{") > depth_max:
        faults = _place_faults(text, depth_max)
        if faults:
            raise Invalid(faults)
    return value


def decode_part(name: str, text: str) -> object:
    """
    Return the part of an event that is called *name*, as deep as it may be in an event sent over HTTP.

    Raises:
        NotJson, Invalid: see `decode`; pointers begin with the part.
    """
    try:
        return decode(text, depth_max=PART_DEPTH_MAX)
    except Invalid as error:
        faults = [Fault(pointer=f"/{name}{fault.pointer}", detail=fault.detail) for fault in error.faults]
        raise Invalid(faults) from error
    except NotJson as error:
        raise NotJson(f"/{name}: {error}") from error


def _scan(decoder: json.JSONDecoder, text: str, depth_max: int) -> object:
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise Invalid([Fault(pointer="", detail=f"nested deeper than {depth_max} levels")]) from None


def _stop_at_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Suspect
    return members


def _int_or_stop(digits: str) -> int:
    if len(digits) > INT_DIGITS_MAX or not INT_MIN <= (value := int(digits)) <= INT_MAX:
        raise _Suspect
    return value


def _float_or_stop(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _Suspect
    return value


def _stop(_constant: str) -> NoReturn:
    raise _Suspect


def _int_or_wrong(digits: str) -> object:
    try:
        return _int_or_stop(digits)
    except _Suspect:
        return _Wrong("integer does not fit in 64 bits")


def _float_or_wrong(text: str) -> object:
    try:
        return _float_or_stop(text)
    except _Suspect:
        return _Wrong("number overflows a double")


_FIRST_PASS = json.JSONDecoder(
    object_pairs_hook=_stop_at_duplicates, parse_int=_int_or_stop, parse_float=_float_or_stop, parse_constant=_stop
)
_SECOND_PASS = json.JSONDecoder(
    object_pairs_hook=_Pairs,
    parse_int=_int_or_wrong,
    parse_float=_float_or_wrong,
    parse_constant=lambda name: _Wrong(f"{name} is no JSON number"),
)


def _place_faults(text: str, depth_max: int) -> list[Fault]:
    faults: list[Fault] = []
    for fault in _walk(_scan(_SECOND_PASS, text, depth_max), depth_max):
        faults.append(fault)
        if len(faults) == FAULTS_MAX:
            break
    return faults


def _walk(root: object, depth_max: int) -> Iterator[Fault]:
    # A stack, not recursion: the depth is the sender's choice. Only a fault makes a pointer: a short text can hold
    # thousands of values below a long name.
    steps: list[str | int] = []
    members: list[Iterator[_Member]] = [iter([("", root, False)])]
    while members:
        member = next(members[-1], None)
        if member is None:
            members.pop()
            continue
        step, value, repeated = member
        steps[len(members) - 1 :] = [step]
        if repeated:
            yield Fault(pointer=_pointer(steps), detail="duplicate key")
        if isinstance(step, str):
            yield from _string_faults(steps, step)
        if isinstance(value, _Wrong):
            yield Fault(pointer=_pointer(steps), detail=value.detail)
        elif isinstance(value, str):
            yield from _string_faults(steps, value)
        elif isinstance(value, list) and len(members) > depth_max:
            yield Fault(pointer=_pointer(steps), detail=f"nested deeper than {depth_max} levels")
        elif isinstance(value, list) and value:
            members.append(_members(value))


def _members(value: list[object]) -> "Iterator[_Member]":
    if not isinstance(value, _Pairs):
        for index, item in enumerate(value):
            yield index, item, False
        return
    seen: set[str] = set()
    for name, item in value:
        yield name, item, name in seen
        seen.add(name)


def _pointer(steps: Sequence[str | int]) -> str:
    # The first step is the document itself.
    return "".join(f"/{escape_pointer(step) if isinstance(step, str) else step}" for step in steps[1:])


def _string_faults(steps: Sequence[str | int], value: str) -> Iterator[Fault]:
    if "\0" in value:
        yield Fault(pointer=_pointer(steps), detail=NUL_FAULT)
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        yield Fault(pointer=_pointer(steps), detail="lone surrogate")


def escape_pointer(name: str) -> str:
    """Escape one member name for a JSON pointer (RFC 6901); what cannot be printed is escaped, a long name cut."""
    short = name if len(name) <= NAME_CHARACTERS_MAX else f"{name[:NAME_CHARACTERS_MAX]}..."
    shown = short.replace("~", "~0").replace("/", "~1")
    return shown.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")
