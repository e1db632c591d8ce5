"""The error of a job, as its row and its events have it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.documents.moves import ERROR_CHARACTERS_MAX, JobError, is_newest
from schemas.documents.states import Failure, Stage


def shown(error: JobError) -> object:
    return msgspec.json.decode(error.text)


def test_an_error_says_where_and_why() -> None:
    error = JobError(stage=Stage.EMBED, reason=Failure.BAD_CHUNK, detail="too long", chunk=0)
    assert shown(error) == {"stage": "embed", "reason": "bad_chunk", "detail": "too long", "chunk": 0}


def test_an_error_of_no_chunk_names_none() -> None:
    error = JobError(stage=Stage.PARSE, reason="no_text", detail="no text")
    assert shown(error) == {"stage": "parse", "reason": "no_text", "detail": "no text"}


@pytest.mark.parametrize("length", [ERROR_CHARACTERS_MAX, ERROR_CHARACTERS_MAX + 1])
def test_the_detail_of_an_error_is_cut_at_its_bound(length: int) -> None:
    error = JobError(stage=Stage.EMBED, reason="r", detail="é" * length)
    assert shown(error) == {"stage": "embed", "reason": "r", "detail": "é" * ERROR_CHARACTERS_MAX}


@given(st.text(st.characters()))
def test_whatever_an_error_says_it_can_be_stored_as_jsonb(detail: str) -> None:
    """Regression: a lone surrogate raised where the job was to be ended; NUL is taken by Postgres as little."""
    text = JobError(stage=Stage.EMBED, reason="r", detail=detail).text
    assert "\\u0000" not in text.replace("\\\\", "")
    assert not any("\ud800" <= each <= "\udfff" for each in msgspec.json.decode(text)["detail"])


def test_a_revision_is_newer_than_what_is_not_there() -> None:
    assert is_newest(-1, None, None)
    assert not is_newest(4, None, 4)
