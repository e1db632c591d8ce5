"""The canonical form: RFC 8785, with integers of 64 bits as their digits."""

import json
from typing import Any

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from schemas.canonical import canonical, event_digest, signed_form
from tests.support.builders import event

SAFE_INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | SAFE_INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_it_is_the_form_of_rfc_8785(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


def test_the_example_of_the_rfc() -> None:
    """RFC 8785, section 3.2.2 and 3.2.3."""
    text = r"""{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"""
    assert canonical(json.loads(text)).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_keys_are_ordered_by_utf_16_units() -> None:
    assert canonical({"\ufb33": 1, "\U0001f600": 2, "a": 3}) == '{"a":3,"\U0001f600":2,"\ufb33":1}'.encode()


def test_large_integers_keep_their_digits() -> None:
    assert canonical([2**53, 2**64 - 1, -(2**63)]) == b"[9007199254740992,18446744073709551615,-9223372036854775808]"


def test_the_signature_is_no_part_of_what_is_signed() -> None:
    plain, signed = event(), event(meta={"signature": "ab"})
    assert signed_form(plain) == signed_form(signed)
    assert event_digest(plain) == event_digest(signed)


def test_everything_else_is() -> None:
    digests = {
        event_digest(each)
        for each in (event(), event(2), event(type="error"), event(payload=1), event(meta={"x": 1}), event(t="later"))
    }
    assert len(digests) == 6
