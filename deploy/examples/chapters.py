"""The chapters of two novels, and questions about them with the spans that answer each."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from deploy.load.retrieval import Question, TextSpan

BOOKS = Path(__file__).parent / "books"


class Questions(StrEnum):
    """A file of questions."""

    WORKING = "questions.json"  # settings of a search may be chosen by these
    HELD_BACK = "held_back.json"  # only run: whoever chooses by these has nothing left to check the choice with


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """One chapter: `book` is the slug of its novel, `index` its number from 1."""

    book: str
    index: int
    text: str


def chapters() -> Iterator[Chapter]:
    """Yield every chapter, book by book, in the order of reading."""
    for path in sorted(BOOKS.glob("*/chapter-*.txt")):
        index = int(path.stem.removeprefix("chapter-"))
        yield Chapter(book=path.parent.name, index=index, text=path.read_text("utf-8"))


def questions(file: Questions) -> list[Question]:
    """
    Return the questions of *file*; collection and document of their spans are book and chapter.

    Raises:
        ValueError: a quoted span is not in the chapter that it is said to be in.
    """
    texts = {(chapter.book, chapter.index): chapter.text for chapter in chapters()}
    found = []
    for entry in json.loads((BOOKS / file).read_text("utf-8")):
        book, index = entry["book"], entry["chapter"]
        starts = [(texts[book, index].index(quoted), len(quoted)) for quoted in entry["spans"]]
        answers = tuple(
            TextSpan(collection=book, document=str(index), start=start, end=start + length) for start, length in starts
        )
        found.append(Question(id=entry["id"], text=entry["question"], answers=answers))
    return found
