"""
Filters of searches on the metadata of documents: comparisons, and groups of them.

A key is the names of members that lie within each other, with dots between: `author.name`. Comparisons by greater and
less are among numbers or among texts: a value of another type, or none, does not match.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import count
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.errors import Fault, Invalid
from schemas.strictjson import NAME_CHARACTERS_MAX

DEPTH_MAX = 5
FILTERS_MAX = 32
VALUES_MAX = 100
KEY_CHARACTERS_MAX = 256
KEY_STEPS_MAX = 8
TEXT_CHARACTERS_MAX = 1024


class FilterType(StrEnum):
    """The comparison, or how a group combines its filters."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    IN = "in"
    NIN = "nin"
    AND = "and"
    OR = "or"


GROUPS = (FilterType.AND, FilterType.OR)
LISTS = (FilterType.IN, FilterType.NIN)
ORDERED = (FilterType.GT, FilterType.GTE, FilterType.LT, FilterType.LTE)


class FilterBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A comparison has key and value; a group, `and` or `or`, has filters."""

    type: FilterType
    key: Annotated[
        Annotated[str, Meta(min_length=1, max_length=KEY_CHARACTERS_MAX, examples=["author.name"])] | UnsetType,
        Meta(description="Names of members within each other, with dots between"),
    ] = UNSET
    value: Annotated[
        Any, Meta(description="A text, number, boolean or null; of gt, gte, lt and lte no boolean or null; of in "
        "and nin a list of 1 to 100")
    ] = UNSET  # fmt: skip
    filters: Annotated[
        Annotated[Sequence["FilterBody"], Meta(min_length=1, max_length=FILTERS_MAX)] | UnsetType,
        Meta(description="5 levels deep and 32 in all at most"),
    ] = UNSET


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """A valid filter."""

    type: FilterType
    steps: tuple[str, ...] = ()  # of the key
    value: Any = None
    filters: "tuple[Filter, ...]" = ()


def read_filter(document: object, *, pointer: str) -> Filter:
    """
    Return the filter in decoded JSON.

    Raises:
        Invalid: it is not a filter, or too large; each fault has its place behind *pointer*.
    """
    faults: list[Fault] = []
    found = _read(document, pointer, depth=1, count=count(1), faults=faults)
    if faults:
        raise Invalid(faults)
    return found


def _read(document: object, pointer: str, *, depth: int, count: Iterator[int], faults: list[Fault]) -> Filter:
    """Return a filter; what is wrong with it is added to *faults*, and it is of no use then."""
    number = next(count)
    if fault := _size_fault(pointer, number, depth) or _form_fault(document, pointer):
        if number <= FILTERS_MAX + 1:  # one more tells that there are too many
            faults.append(fault)
        return _NOTHING
    assert isinstance(document, dict)
    type_ = FilterType(document["type"])
    if type_ not in GROUPS:
        if fault := _comparison_fault(type_, document, pointer):
            faults.append(fault)
            return _NOTHING
        return Filter(type=type_, steps=tuple(document["key"].split(".")), value=document["value"])
    filters = document.get("filters")
    if not isinstance(filters, list) or not filters:
        faults.append(Fault(pointer=f"{pointer}/filters", detail="a list of one filter or more"))
        return _NOTHING
    members = [
        _read(each, f"{pointer}/filters/{place}", depth=depth + 1, count=count, faults=faults)
        for place, each in enumerate(filters[: FILTERS_MAX + 1])
    ]
    return Filter(type=type_, filters=tuple(members))


def _size_fault(pointer: str, number: int, depth: int) -> Fault | None:
    if number > FILTERS_MAX:
        return Fault(pointer=pointer, detail=f"more than {FILTERS_MAX} filters")
    if depth > DEPTH_MAX:
        return Fault(pointer=pointer, detail=f"filters nested deeper than {DEPTH_MAX} levels")
    return None


def _form_fault(document: object, pointer: str) -> Fault | None:
    if not isinstance(document, dict):
        return Fault(pointer=pointer, detail="a JSON object")
    type_ = document.get("type")
    if not isinstance(type_, str) or type_ not in tuple(FilterType):
        return Fault(pointer=f"{pointer}/type", detail=f"one of {', '.join(FilterType)}")
    known = ("type", "filters") if type_ in GROUPS else ("type", "key", "value")
    if unknown := sorted(document.keys() - set(known)):
        detail = f"a filter of type {type_} has {', '.join(known)}, and no {unknown[0][:NAME_CHARACTERS_MAX]!r}"
        return Fault(pointer=pointer, detail=detail)
    return None


def _comparison_fault(type_: FilterType, document: Mapping[str, Any], pointer: str) -> Fault | None:
    key = document.get("key")
    steps = key.split(".") if isinstance(key, str) and len(key) <= KEY_CHARACTERS_MAX else []
    if not 0 < len(steps) <= KEY_STEPS_MAX or not all(steps):
        return Fault(pointer=f"{pointer}/key", detail=f"a text of at most {KEY_STEPS_MAX} names with dots between")
    fault = _value_fault(type_, document.get("value", UNSET))
    return None if fault is None else Fault(pointer=f"{pointer}/value", detail=fault)


def _value_fault(type_: FilterType, value: object) -> str | None:
    if type_ in LISTS:
        if not isinstance(value, list) or not 1 <= len(value) <= VALUES_MAX:
            return f"a list of 1 to {VALUES_MAX} values"
        return None if all(_is_scalar(each) for each in value) else _SCALARS
    if not _is_scalar(value):
        return _SCALARS
    if type_ in ORDERED and (value is None or isinstance(value, bool)):
        return "a text or a number"
    return None


_NOTHING = Filter(type=FilterType.AND)
_SCALARS = f"texts of at most {TEXT_CHARACTERS_MAX} characters, numbers, booleans and null alone"


def _is_scalar(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= TEXT_CHARACTERS_MAX
    return value is None or isinstance(value, int | float)
