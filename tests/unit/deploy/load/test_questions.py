"""Labelled questions, and the places of what they quote."""

import json
from pathlib import Path

import pytest

from deploy.load.questions import NotQuestions, read_questions, span_of, text_of_chunks
from deploy.load.retrieval import TextSpan

QUESTION = {"id": "q", "book": "emma", "chapter": 3, "question": "Who?", "spans": ["a friend", "Mr. Knightley"]}


def write(path: Path, *questions: object) -> Path:
    file = path / "questions.json"
    file.write_text(json.dumps(questions))
    return file


def test_each_quotation_is_a_span_of_the_chapters_text(tmp_path: Path) -> None:
    [found] = read_questions(write(tmp_path, QUESTION), lambda *_: "Mr. Knightley, a friend")
    assert found.answers == (
        TextSpan(collection="emma", document="3", start=15, end=23),
        TextSpan(collection="emma", document="3", start=0, end=13),
    )


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    for wrong in ({"id": "q"}, "text"):
        with pytest.raises(NotQuestions):
            read_questions(write(tmp_path, wrong), lambda *_: "")
    with pytest.raises(NotQuestions, match="has no question"):
        read_questions(write(tmp_path), lambda *_: "")


def test_a_text_is_put_together_from_chunks_that_overlap_and_leave_gaps() -> None:
    chunks = [
        {"span": [0, 7], "text": "One two"},
        {"span": [4, 13], "text": "two three"},
        {"span": [15, 19], "text": "four"},
    ]
    assert text_of_chunks(chunks) == "One two three  four"


def test_a_hit_is_the_place_that_the_api_names() -> None:
    hit = {"document": {"book_slug": "emma", "chapter_index": 3}, "span": [4, 9]}
    assert span_of(hit) == TextSpan(collection="emma", document="3", start=4, end=9)


def test_the_questions_of_the_repository_quote_its_books() -> None:
    books = Path(__file__).parents[4] / "deploy" / "examples" / "books"

    def text_of(book: str, chapter: str) -> str:
        return (books / book / f"chapter-{int(chapter):02}.txt").read_text()

    assert len(read_questions(books / "questions.json", text_of)) == 80
    assert len(read_questions(books / "held_back.json", text_of)) == 40
