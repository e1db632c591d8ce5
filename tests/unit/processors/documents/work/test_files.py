"""The names and the metadata of the documents that the parts of a file become."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.documents.parsing.results import PARTS_MAX
from processors.documents.work.files import part_name
from schemas.documents.rules import DOCUMENT_CHARACTERS_MAX, document_fault

NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=DOCUMENT_CHARACTERS_MAX),
    st.integers(490, DOCUMENT_CHARACTERS_MAX).map(lambda length: "é" * length),
)


@pytest.mark.parametrize(("number", "name"), [(1, "book"), (2, "book/2"), (10, "book/10"), (PARTS_MAX, "book/10000")])
def test_the_first_part_has_the_name_of_its_file_and_the_others_a_number(number: int, name: str) -> None:
    assert part_name("book", number) == name


@given(NAMES, st.integers(1, PARTS_MAX))
def test_the_name_of_a_part_is_one_of_a_document(document: str, number: int) -> None:
    assert document_fault(document) is None
    assert document_fault(part_name(document, number)) is None


@given(NAMES, st.integers(2, PARTS_MAX), st.integers(2, PARTS_MAX))
def test_names_of_parts_differ_in_their_number_alone(document: str, number: int, other: int) -> None:
    """So the parts of an earlier file are found by what comes before the number."""
    assert part_name(document, number).removesuffix(str(number)) == part_name(document, other).removesuffix(str(other))
    assert (part_name(document, number) == part_name(document, other)) == (number == other)


@pytest.mark.parametrize("length", [505, 506, DOCUMENT_CHARACTERS_MAX])
def test_files_whose_long_names_differ_at_the_end_have_parts_of_their_own(length: int) -> None:
    """Regression: the name was cut, and the second part of one file was that of the other."""
    assert part_name("a" * (length - 1) + "b", 2) != part_name("a" * (length - 1) + "c", 2)
