"""The form of commands for documents: each bound at both of its sides."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.documents.rules import (
    DOCUMENT_CHARACTERS_MAX,
    DOCUMENT_PATTERN,
    METADATA_BYTES_MAX,
    NO_DOCUMENT,
    REVISION_MAX,
    TEXT_CHARACTERS_MAX,
    collection_fault,
    document_fault,
    metadata_fault,
    priority_fault,
    put_faults,
    retries_fault,
    text_fault,
)
from schemas.documents.states import ENDS, IN_FLIGHT, Lane, Phase, lane_of
from schemas.ids import uuid_fault

JOB_ID = "6b1f6f5e-2d0d-4a55-9f7c-0f3c5a1f7b01"
PUT = {"job_id": JOB_ID, "collection": "book", "document": "1", "priority": 5, "max_retries": 3}


@pytest.mark.parametrize("name", ["a", "a" * 128, "Moby.Dick_1:a-b"])
def test_a_collection_is_named_as_an_id(name: str) -> None:
    assert collection_fault(name) is None


@pytest.mark.parametrize("name", ["", "a" * 129, "a/b", "a b", "ä", "a\n", None, 1])
def test_a_collection_is_not_named_otherwise(name: object) -> None:
    assert collection_fault(name)


@pytest.mark.parametrize("name", ["1", "a/b c", "Kapitel 1: Öl", "é" * DOCUMENT_CHARACTERS_MAX])
def test_a_document_may_be_named_by_any_text(name: str) -> None:
    assert document_fault(name) is None


@pytest.mark.parametrize("name", ["", "x" * (DOCUMENT_CHARACTERS_MAX + 1), "a\n", "\0", "\x7f", "\x9f", None, 1])
def test_a_document_is_not_named_by_what_is_empty_long_or_has_control_characters(name: object) -> None:
    assert document_fault(name)


@given(st.text(max_size=520))
def test_the_pattern_that_is_published_is_the_rule(name: str) -> None:
    assert (re.fullmatch(DOCUMENT_PATTERN.removesuffix("$"), name) is None) == (document_fault(name) is not None)


@pytest.mark.parametrize("value", [JOB_ID.upper(), JOB_ID.replace("-", ""), f"{{{JOB_ID}}}", "", None, 1])
def test_an_id_is_a_uuid_in_its_usual_form(value: object) -> None:
    assert uuid_fault(JOB_ID) is None
    assert uuid_fault(value)


@pytest.mark.parametrize(("value", "is_right"), [(0, False), (1, True), (10, True), (11, False), (True, False)])
def test_a_priority_is_from_1_to_10(value: object, is_right: bool) -> None:
    assert (priority_fault(value) is None) == is_right


@pytest.mark.parametrize(("value", "is_right"), [(-1, False), (0, True), (10, True), (11, False), ("3", False)])
def test_retries_are_from_0_to_10(value: object, is_right: bool) -> None:
    assert (retries_fault(value) is None) == is_right


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ({}, []),
        ({"expected_revision": NO_DOCUMENT, "parent_job": JOB_ID, "submitted_by": "me"}, []),
        ({"expected_revision": REVISION_MAX}, []),
        ({"expected_revision": NO_DOCUMENT - 1}, ["/expected_revision"]),
        ({"expected_revision": REVISION_MAX + 1}, ["/expected_revision"]),
        ({"job_id": "x", "document": "", "priority": 0}, ["/job_id", "/document", "/priority"]),
        ({"parent_job": "x", "submitted_by": ""}, ["/parent_job", "/submitted_by"]),
    ],
)
def test_every_fault_of_a_put_is_named(changes: dict[str, Any], pointers: list[str]) -> None:
    assert [fault.pointer for fault in put_faults(PUT | changes)] == pointers


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("a", True),
        (" \n\t ", False),
        ("", False),
        ("a" * TEXT_CHARACTERS_MAX, True),
        ("a" * (TEXT_CHARACTERS_MAX + 1), False),
    ],
    ids=["one", "white space", "empty", "most", "too many"],
)
def test_a_text_has_more_than_white_space_and_a_bound(text: str, is_right: bool) -> None:
    assert (text_fault(text) is None) == is_right


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ('{"a": 1}', True),
        (f'"{"é" * (METADATA_BYTES_MAX // 2 - 1)}"', True),
        (f'"{"é" * (METADATA_BYTES_MAX // 2)}"', False),
        ("1e-20000", False),
        (f"0.{'1' * 10_001}", False),
    ],
    ids=["small", "most", "too large", "exponent", "digits"],
)
def test_metadata_fits_into_jsonb(text: str, is_right: bool) -> None:
    assert (metadata_fault(text) is None) == is_right


def test_priorities_are_shared_out_among_the_lanes() -> None:
    lanes = [lane_of(priority) for priority in range(1, 11)]
    assert lanes == [Lane.LOW] * 3 + [Lane.NORMAL] * 4 + [Lane.HIGH] * 3


def test_a_phase_is_in_flight_or_an_end() -> None:
    assert {*IN_FLIGHT} | {*ENDS} == {*Phase}
    assert not {*IN_FLIGHT} & {*ENDS}
