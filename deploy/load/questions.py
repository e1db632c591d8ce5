"""Labelled questions in a file: each quotes the passages that answer it, which are found in the stored text."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from deploy.load.retrieval import Question, TextSpan

StoredText = Callable[[str, str], str]


class NotQuestions(Exception):
    """The file cannot be used, or a quotation does not stand in the stored text; says which."""


class _Labelled(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    book: str
    chapter: int | str
    question: str
    spans: list[str]


def read_questions(path: Path, text_of: StoredText) -> list[Question]:
    """
    Return the questions in *path*, a JSON list; *text_of* returns the text of a chapter of a book.

    Raises:
        NotQuestions: it is no such list, or quotes what the text does not have.
    """
    try:
        labelled = msgspec.json.decode(path.read_bytes(), type=list[_Labelled])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NotQuestions(f"{path}: {error}") from error
    if not labelled:
        raise NotQuestions(f"{path} has no question")
    return [_question(each, text_of) for each in labelled]


def text_of_chunks(chunks: Iterable[Mapping[str, Any]]) -> str:
    """Return the text that *chunks* are spans of, in their order; a gap between two of them is blank."""
    text = ""
    for chunk in chunks:
        start = chunk["span"][0]
        text = text[:start].ljust(start) + chunk["text"]
    return text


def span_of(hit: Mapping[str, Any]) -> TextSpan:
    """Return the place of a hit, as the API has it."""
    start, end = hit["span"]
    document = hit["document"]
    return TextSpan(collection=document["book_slug"], document=str(document["chapter_index"]), start=start, end=end)


def _question(labelled: _Labelled, text_of: StoredText) -> Question:
    chapter = str(labelled.chapter)
    text = text_of(labelled.book, chapter)
    return Question(id=labelled.id, text=labelled.question, answers=tuple(_answers(labelled, chapter, text)))


def _answers(labelled: _Labelled, chapter: str, text: str) -> Sequence[TextSpan]:
    found = []
    for quoted in labelled.spans:
        start = text.find(quoted)
        if start < 0:
            raise NotQuestions(f"question {labelled.id}: {labelled.book}/{chapter} does not have {quoted!r}")
        found.append(TextSpan(collection=labelled.book, document=chapter, start=start, end=start + len(quoted)))
    return found
