"""The short way for plain bodies decides as the contract's own decoder and writer do, or not at all."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.runs.parsing.plain_body import read_plain
from schemas import strictjson
from schemas.canonical import signed_form

NUMBERS = st.one_of(
    st.integers(),
    st.integers(min_value=-100, max_value=100),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(min_value=-1, max_value=1),
    st.decimals(min_value=-1000, max_value=1000, places=3).map(float),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)
DOCUMENTS = st.fixed_dictionaries(
    {"payload": VALUES, "meta": st.dictionaries(st.sampled_from(["run_id", "signature", "é", "z", "~"]), VALUES)}
)


@given(DOCUMENTS, st.booleans())
def test_a_plain_body_has_the_document_and_the_signed_form_of_the_contract(document: dict, ascii_only: bool) -> None:
    """Whatever the short way takes, it reads and writes as strictjson and the RFC 8785 writer would."""
    text = json.dumps(document, ensure_ascii=ascii_only)
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    plain = read_plain(body)
    if plain is not None:
        decoded = strictjson.decode(body.decode())
        assert plain == (decoded, signed_form(decoded))
        assert repr(plain[0]) == repr(decoded)


@given(st.text(alphabet='{}[]:,"0123456789.eE-+ ab\\utrfn\0\u00e9\U00010000', max_size=60))
def test_what_is_not_strict_json_is_never_plain(text: str) -> None:
    """The short way takes nothing that the strict decoder refuses."""
    plain = read_plain(text.encode())
    if plain is not None:
        assert repr(plain[0]) == repr(strictjson.decode(text))


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":1}',
        b'{"a" :1,"a":"x"}',
        b'{"a":1.0}',
        b'{"a":[-0.0]}',
        b'{"a":1e5}',
        b'{"a":0.000001}',
        b'{"a":9223372036854775808}',
        b'{"a":"\\u0000"}',
        '{"\U00010000":1,"\uffff":2}'.encode(),
        b'{"a":' + b"[" * 70 + b"]" * 70 + b"}",
        b'{"a":NaN}',
        b'{"a":"\xff"}',
        b"[1]",
        b"",
    ],
)
def test_doubtful_bodies_go_the_long_way(body: bytes) -> None:
    """Duplicates, numbers with two notations, escapes, depth, and what is no object."""
    assert read_plain(body) is None


def test_an_ordinary_event_is_plain() -> None:
    """Spaces, uuids and fractions do not send an event the long way."""
    body = '{"seq": 1, "payload": {"id": "6f1c4e02-1e5a", "score": 0.75, "text": "café"}, "meta": {"signature": "x"}}'
    plain = read_plain(body.encode())
    assert plain is not None
    assert plain[1] == '{"meta":{},"payload":{"id":"6f1c4e02-1e5a","score":0.75,"text":"café"},"seq":1}'.encode()
