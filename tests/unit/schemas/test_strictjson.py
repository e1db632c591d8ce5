"""JSON without the parts that implementations disagree about."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import strictjson
from schemas.errors import Invalid

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), inner, max_size=4
    ),
    max_leaves=20,
)  # fmt: skip


@given(JSON_VALUES, st.booleans())
def test_what_is_allowed_comes_through_unchanged(value: Any, ascii_only: bool) -> None:
    assert strictjson.decode(json.dumps(value, ensure_ascii=ascii_only)) == value


@pytest.mark.parametrize(
    ("text", "pointer", "detail"),
    [
        ('{"a": 1, "a": 2}', "/a", "duplicate key"),
        ('{"a": {"b": [0, NaN]}}', "/a/b/1", "NaN is no JSON number"),
        ("[-Infinity]", "/0", "-Infinity is no JSON number"),
        ("[1e999]", "/0", "number overflows a double"),
        ("[18446744073709551616]", "/0", "integer does not fit in 64 bits"),
        ("[-9223372036854775809]", "/0", "integer does not fit in 64 bits"),
        (f"[{'9' * 5_000_000}]", "/0", "integer does not fit in 64 bits"),
        ('["a\\u0000b"]', "/0", "NUL character"),
        ('["\\ud800"]', "/0", "lone surrogate"),
        ('{"\\u0000": 1}', "/\\u0000", "NUL character"),
        ('{"a/b~c": NaN}', "/a~1b~0c", "NaN is no JSON number"),
        ("[" * 65 + "]" * 65, "/0" * 64, "nested deeper than 64 levels"),
        ("[" * 100_000, "", "nested deeper than 64 levels"),
    ],
    ids=lambda value: value[:20],
)
def test_a_fault_is_named_with_its_place(text: str, pointer: str, detail: str) -> None:
    with pytest.raises(Invalid) as caught:
        strictjson.decode(text)
    assert [(fault.pointer, fault.detail) for fault in caught.value.faults] == [(pointer, detail)]


def test_every_fault_is_listed() -> None:
    with pytest.raises(Invalid) as caught:
        strictjson.decode('{"a": NaN, "b": 1e999, "c": ["\\u0000"], "c": 2}')
    assert {fault.pointer for fault in caught.value.faults} == {"/a", "/b", "/c", "/c/0"}


def test_the_list_of_faults_is_bounded() -> None:
    with pytest.raises(Invalid) as caught:
        strictjson.decode(json.dumps([float("nan")] * 10_000))
    assert len(caught.value.faults) == strictjson.FAULTS_MAX


@pytest.mark.parametrize("text", ["", "{", "nul", "{'a': 1}", '{"a": 1,}', "[1] 2", "[\x00]", '"\x01"', "01", "1."])
def test_what_does_not_parse_is_no_json(text: str) -> None:
    with pytest.raises(strictjson.NotJson):
        strictjson.decode(text)


@given(st.text(max_size=200))
def test_any_text_is_a_value_or_refused_with_a_reason(text: str) -> None:
    try:
        strictjson.decode(text)
    except (strictjson.NotJson, Invalid) as error:
        assert str(error)


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert strictjson.decode('"\\ud83c\\udf0a"') == "\N{WATER WAVE}"


def test_64_levels_are_allowed() -> None:
    assert strictjson.decode("[" * 64 + "]" * 64) is not None
