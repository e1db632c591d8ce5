"""Normalised properties: bounded, and the same for the same payload."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events.properties import (
    DEPTH_MAX,
    PATH_CHARACTERS_MAX,
    PROPERTIES_MAX,
    TEXT_CHARACTERS_MAX,
    PropertyType,
    normalised,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
)


def test_scalars_have_dotted_paths() -> None:
    payload = {"cart": {"total": "12.50", "items": [{"sku": "A"}, {"sku": None}]}, "new": True}
    assert normalised(payload) == {
        "cart.total": "12.50",
        "cart.items.0.sku": "A",
        "cart.items.1.sku": None,
        "new": True,
    }
    assert normalised("a text") == normalised(7) == normalised([]) == {}


@given(VALUES)
def test_any_payload_has_properties_within_the_bounds(payload: object) -> None:
    found = normalised(payload, dict.fromkeys(["a", "0", ""], PropertyType.NUMBER))
    assert len(found) <= PROPERTIES_MAX
    for path, value in found.items():
        assert 0 < len(path) <= PATH_CHARACTERS_MAX
        assert path.count(".") < 2 * DEPTH_MAX + path.count(".")
        assert not isinstance(value, str) or len(value) <= TEXT_CHARACTERS_MAX


def test_what_is_beyond_the_bounds_is_left_out() -> None:
    assert len(normalised({str(number): number for number in range(1000)})) == PROPERTIES_MAX
    deep: Any = 1
    for _ in range(DEPTH_MAX + 1):
        deep = {"a": deep}
    assert normalised(deep) == {}
    assert normalised({"long": "x" * 2000, "a" * 300: 1, "short": "x"}) == {"short": "x"}


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        (PropertyType.NUMBER, "12.50", 12.5),
        (PropertyType.NUMBER, " 7 ", 7),
        (PropertyType.NUMBER, "1_000", "1_000"),
        (PropertyType.NUMBER, "1e999", "1e999"),
        (PropertyType.NUMBER, "٣", "٣"),
        (PropertyType.NUMBER, True, 1),
        (PropertyType.NUMBER, "many", "many"),
        (PropertyType.TEXT, 7, "7"),
        (PropertyType.TEXT, False, "false"),
        (PropertyType.TEXT, None, None),
        (PropertyType.BOOLEAN, "Yes", True),
        (PropertyType.BOOLEAN, 0, False),
        (PropertyType.BOOLEAN, "maybe", "maybe"),
        (PropertyType.TIME, "2026-11-20T10:00:00+02:00", "2026-11-20T08:00:00+00:00"),
        (PropertyType.TIME, 0, "1970-01-01T00:00:00+00:00"),
        (PropertyType.TIME, 1e300, 1e300),
        (PropertyType.TIME, "soon", "soon"),
    ],
)
def test_a_schema_coerces_what_it_can_and_loses_nothing(kind: PropertyType, value: object, found: object) -> None:
    assert normalised({"p": value}, {"p": kind}) == {"p": found}
