"""TOON to the JSON text that it stands for, and from there on nothing but JSON's way."""

import inspect
import json
import re
from typing import Any

import pytest
import toon_format
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from toon_format import _decoder

from gateway.errors import EventTooLarge, NotToon
from gateway.http import toon
from gateway.http.toon import json_of
from gateway.runs.parsing.bodies import ParsedEvent, parse_event
from schemas.errors import Fault, Invalid
from tests.support import builders

MIB = 1024 * 1024

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))  # NUL included: TOON can write it, and it is a fault
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-(2**66), 2**66),
    # TOON's writers spell a whole double from 2^53 on with an integer's digits, which are signed as they stand.
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not x.is_integer() or abs(x) < 2**53),
    st.decimals(min_value=-1000, max_value=1000, places=3).map(float),
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXTS, inner, max_size=4)
        # What TOON writes as tables, of values and of objects.
        | st.lists(st.fixed_dictionaries({"a": inner, "é b": inner}), max_size=3)
        | st.dictionaries(TEXTS, st.fixed_dictionaries({"x": NUMBERS, "y": TEXTS}), max_size=3)
    ),
    max_leaves=15,
)
EVENTS = st.builds(
    lambda changes, payload, more: builders.event(payload=payload, meta=more) | changes,
    st.dictionaries(st.sampled_from(["seq", "t", "actor", "type", "x/y", "meta"]), VALUES, max_size=2),
    VALUES,
    st.dictionaries(TEXTS, VALUES, max_size=3),
)


def judge(body: bytes) -> ParsedEvent | set[Fault]:
    """Return the event, or its faults."""
    try:
        return parse_event(body, run_id=builders.RUN)
    except Invalid as error:
        return set(error.faults)


def event_with(payload: str) -> bytes:
    """Return a valid event whose payload is written so."""
    head = 'seq: 1\nt: "2025-12-05T10:00:00Z"\nactor: agent\ntype: reasoning\n'
    return f"{head}meta:\n  run_id: {builders.RUN}\n  agent_id: plain-agent\npayload{payload}\n".encode()


@settings(deadline=None)
@given(EVENTS, st.sampled_from([",", "\t", "|"]))
def test_an_event_is_judged_and_kept_as_its_json_would_be(event: dict[str, Any], delimiter: str) -> None:
    """One digest, one value, one list of faults."""
    assume(not isinstance(event["seq"], float))  # TOON's encoder writes 1.0 as 1, and that is a seq
    as_toon = judge(json_of(toon_format.dumps(event, delimiter=delimiter).encode(), bytes_max=MIB))
    as_json = judge(json.dumps(event).encode())
    if isinstance(as_toon, ParsedEvent) and isinstance(as_json, ParsedEvent):
        assert as_toon.sha256 == as_json.sha256
        assert as_toon.document == as_json.document
        assert json.loads(as_toon.payload) == event["payload"]
        assert json.loads(as_toon.meta) == event["meta"]
    else:
        assert as_toon == as_json


@pytest.mark.parametrize(
    "number",
    ["1.10", "1e5", "1E+05", "-0.0", "0.1e-7", "18446744073709551615", "-9223372036854775808", "3." + "14159" * 20],
)
@pytest.mark.parametrize("written", [": {}", "[2]: {},x", "[1]{{a}}:\n  {}", "[1:]{{a}}:\n  k: {}"])
def test_a_number_is_kept_as_it_was_written(number: str, written: str) -> None:
    parsed = judge(json_of(event_with(written.format(number)), bytes_max=MIB))
    assert isinstance(parsed, ParsedEvent)
    assert re.search(rf'(?<![\w".-]){re.escape(number)}(?![\w".-])', parsed.payload)


@pytest.mark.parametrize(
    ("payload", "pointer", "detail"),
    [
        ("[2]: 1,18446744073709551616", "/payload/1", "integer does not fit in 64 bits"),
        (f": {'9' * 1_000_000}", "/payload", "integer does not fit in 64 bits"),
        (": 1e999", "/payload", "number overflows a double"),
        (':\n  "a/b": "x\\u0000"', "/payload/a~1b", "NUL character"),
        (":\n  a: \0", "/payload/a", "NUL character"),
        (":" + "".join(f"\n{'  ' * depth}a:" for depth in range(1, 65)), "/payload" + "/a" * 63, "nested deeper"),
        (":" + "".join(f"\n{'  ' * depth}a:" for depth in range(1, 2000)), "", "nested deeper than 64 levels"),
    ],
    ids=["integer", "digits", "double", "escaped NUL", "NUL", "nesting", "deep nesting"],
)
def test_what_json_may_not_say_toon_may_not_either(payload: str, pointer: str, detail: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_event(json_of(event_with(payload), bytes_max=10 * MIB), run_id=builders.RUN)
    assert [fault.pointer for fault in caught.value.faults] == [pointer]
    assert caught.value.faults[0].detail.startswith(detail)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"a: 1\na: 2", "Duplicate key 'a' at line 2"),
        (b"a[1]{x,x}:\n  1,2", "Duplicate field name 'x' at line 1"),
        (b"a[3]: 1,2", "Declared length 3 but found 2 at line 1"),
        (b'a: "\\ud83d\\ude00"', "Surrogate escape \\ud83d at line 1"),
        (b'a: "x', "Unterminated string at line 1"),
        (b"a:\n   b: 1", "Indentation of 3 spaces is not a multiple of 2 at line 2"),
        (b"a: \xff", "not UTF-8 at byte 3"),
    ],
)
def test_what_is_no_toon_is_told_with_its_line(body: bytes, detail: str) -> None:
    with pytest.raises(NotToon) as caught:
        json_of(body, bytes_max=MIB)
    assert str(caught.value) == detail


def test_an_error_quotes_no_more_than_a_line() -> None:
    with pytest.raises(NotToon) as caught:
        json_of(b"%b: 1\n" % (b"k" * MIB) * 2, bytes_max=10 * MIB)
    assert len(str(caught.value)) < 300


def test_a_table_of_long_keys_is_refused_before_its_json_is_made() -> None:
    """Each row repeats the key: 1.1 MB of TOON would be 50 GB of JSON."""
    body = b"a[50000]{%b}:\n" % (b"k" * MIB) + b"  1\n" * 50_000
    with pytest.raises(EventTooLarge, match="as JSON"):
        json_of(body, bytes_max=10 * MIB)


def test_the_json_is_bounded_like_the_body() -> None:
    body = b'a: "%b"' % (b"\x01" * 100)
    assert len(json_of(body, bytes_max=608)) == 608
    with pytest.raises(EventTooLarge, match="as JSON"):
        json_of(body, bytes_max=607)


@pytest.mark.parametrize("values", [toon.VALUES_MAX - 1, toon.VALUES_MAX])
@pytest.mark.parametrize("written", ["a[{count}]: {inline}", "a[{count}]:\n  - {lines}"], ids=["inline", "lines"])
def test_the_count_of_values_is_bounded(values: int, written: str) -> None:
    body = written.format(
        count=values + 1, inline=",".join("1" * (values + 1)), lines="\n  - ".join("1" * (values + 1))
    )
    assert body.count(",") + body.count("\n") in (values, values + 1)
    if body.count(",") + body.count("\n") <= toon.VALUES_MAX:
        json_of(body.encode(), bytes_max=MIB)
        return
    with pytest.raises(EventTooLarge, match="lines and delimiters"):
        json_of(body.encode(), bytes_max=MIB)


def test_delimiters_in_strings_do_not_count() -> None:
    """A payload may hold the text of a table."""
    text = "1,2\t|" * toon.VALUES_MAX + '"\\'
    assert json.loads(json_of(toon_format.dumps({"a": text}).encode(), bytes_max=10 * MIB)) == {"a": text}


def test_many_strings_are_many_values() -> None:
    with pytest.raises(EventTooLarge, match="lines and delimiters"):
        json_of(b"a: " + b'"",' * (toon.VALUES_MAX + 2), bytes_max=MIB)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_translated_or_refused(body: bytes) -> None:
    _translate_and_judge(body)


@settings(deadline=None)
@given(st.text(alphabet='ab: \n-[]{}",|\t\\u0012#.e\ufeff\u00e9\0', max_size=80))
@example("a[1]{b{c{d}}}:\n  1")
@example("[1]" + "{a" * 2000 + "}" * 2000 + ":\n  1")
@example("- " * 2000)
@example("[0]:")
@example("")
def test_any_text_is_translated_or_refused(text: str) -> None:
    _translate_and_judge(text.encode())


def _translate_and_judge(body: bytes) -> None:
    try:
        text = json_of(body, bytes_max=MIB)
    except (NotToon, Invalid, EventTooLarge):
        return
    assert isinstance(judge(text), set | ParsedEvent)


LIBRARY_PATTERN = r'"(?:[^"\\]|\\.)*"'


def test_the_pattern_in_whose_place_ours_stands_is_the_librarys() -> None:
    """When this fails, look at whether the library still needs ours."""
    assert f"_QUOTED = re.compile(r'{LIBRARY_PATTERN}', re.DOTALL)" in inspect.getsource(_decoder)


@settings(deadline=None)
@given(st.text(alphabet='"\\ab\n', max_size=40))
def test_our_pattern_matches_what_the_librarys_does(text: str) -> None:
    theirs = re.compile(LIBRARY_PATTERN, re.DOTALL).match(text)
    ours = _decoder._QUOTED.match(text)
    assert (ours and ours.span()) == (theirs and theirs.span())
