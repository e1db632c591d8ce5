"""The binary form of pgvector's halfvec."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.documents.store.vectors import HalfVector, HalfVectorDumper

HALVES = st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=1, max_size=400)


@given(HALVES)
def test_a_vector_is_its_length_and_its_halves_in_network_order(numbers: list[float]) -> None:
    count = len(numbers)
    stored = HalfVectorDumper(HalfVector).dump(HalfVector(struct.pack(f"<{count}e", *numbers)))
    assert stored == struct.pack(">HH", count, 0) + struct.pack(f">{count}e", *numbers)


@pytest.mark.parametrize(("halves", "stored"), [("003c", "000100003c00"), ("003c00bcff7b", "000300003c00bc007bff")])
def test_a_vector_has_its_golden_bytes(halves: str, stored: str) -> None:
    """1; and 1, -1, 65504."""
    assert HalfVectorDumper(HalfVector).dump(HalfVector(bytes.fromhex(halves))).hex() == stored
