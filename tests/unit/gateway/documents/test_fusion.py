"""The order of what several legs found, and the SQL of filters."""

import re

from hypothesis import given
from hypothesis import strategies as st

from gateway.documents.parsing.files import read_form
from gateway.documents.parsing.filters import FilterType, read_filter
from gateway.documents.search.filter_sql import condition
from gateway.documents.search.fusion import best_of_documents, fuse
from gateway.documents.search.legs import Found, LegAnswer
from gateway.errors import BadBody, UnsupportedMediaType
from schemas.errors import Invalid

IDS = st.lists(st.integers(0, 30), max_size=20, unique=True)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
KEYS = st.text(min_size=1, max_size=10).filter(lambda text: "." not in text)


def comparison(type_: FilterType) -> st.SearchStrategy[dict[str, object]]:
    values: st.SearchStrategy[object] = SCALARS
    if type_ in (FilterType.IN, FilterType.NIN):
        values = st.lists(SCALARS, min_size=1, max_size=5)
    elif type_ not in (FilterType.EQ, FilterType.NE):
        values = st.text(max_size=20) | st.integers(0, 9)
    return st.fixed_dictionaries({"type": st.just(type_.value), "key": KEYS, "value": values})


COMPARISONS = st.sampled_from([each for each in FilterType if each not in ("and", "or")]).flatmap(comparison)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["and", "or"]), "filters": st.lists(inner, min_size=1, max_size=3)}
    ),
    max_leaves=8,
)


def answer(ids: list[int]) -> LegAnswer:
    return LegAnswer(found=[Found(chunk_id=each, collection="c", document=str(each % 3), score=0.0) for each in ids])


@given(IDS, IDS)
def test_every_chunk_that_was_found_is_there_once_and_in_order(near: list[int], worded: list[int]) -> None:
    fused = fuse({"a": [answer(near)]}, {"a": [answer(worded)]})
    assert sorted(each.chunk.chunk_id for each in fused) == sorted({*near, *worded})
    assert [each.score for each in fused] == sorted((each.score for each in fused), reverse=True)
    assert list(fused) == list(fuse({"a": [answer(near)]}, {"a": [answer(worded)]}))
    for each in fused:
        ranks = [place.rank for place in (each.vector, each.words) if place is not None]
        assert each.score == sum(1 / (3 + rank) for rank in ranks)
    documents = [each.chunk.document for each in best_of_documents(fused)]
    assert len(documents) == len(set(documents)) == len({each.chunk.document for each in fused})


@given(FILTERS)
def test_no_text_of_a_user_is_part_of_a_statement(document: dict[str, object]) -> None:
    try:
        admitted = read_filter(document, pointer="")
    except Invalid:
        return  # nested too deep
    composed, parameters = condition(admitted)
    text = re.sub(r"%\((filter_[0-9]+)\)s", "", composed.as_string(None))
    words = set(re.split(r"[\s()]+|::", text))
    known = {"", "AND", "OR", "NOT", "coalesce", "false", "document.metadata", "#>", "@>", "=", "ANY", "jsonb_typeof"}
    known |= {"text[]", "jsonb[]", "jsonb", "jsonb,", "'string'", "'number'", "<", "<=", ">", ">=", ","}
    assert words - known == set()
    assert list(parameters) == [f"filter_{number}" for number in range(len(parameters))]


HEADS = [b"", b"--b\r\n", b"--b\r\nContent-Disposition: form-data; name=file\r\n"]


@given(st.binary(max_size=300), st.sampled_from(HEADS))
def test_any_bytes_are_a_form_or_a_named_refusal(body: bytes, head: bytes) -> None:
    try:
        read_form(head + body, content_type="multipart/form-data; boundary=b")
    except (BadBody, Invalid, UnsupportedMediaType):
        return
    raise AssertionError("no such form is whole")
