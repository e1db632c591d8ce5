"""The two novels as they are shipped, and whether each question is answered where it says."""

import re
import unicodedata
from collections import Counter

import pytest

from deploy.examples.chapters import Questions, chapters, questions
from deploy.load.retrieval import Question

CHAPTERS = {(chapter.book, chapter.index): chapter.text for chapter in chapters()}
ASKED = {file: questions(file) for file in Questions}
ALL = [question for file in Questions for question in ASKED[file]]
SHARED_MAX = 0.5  # of a question's content words, in its spans
SHARED_MEAN_MAX = 0.12
SIZE_MAX = 1_200_000  # bytes of both novels
SMALL = (
    "a about after all an and are as at be been before both but by can could did do does for from get had has have he "
    "her him his how in into is it its may no not of off old on one only or other our out over say says she should so "
    "some such than that the their them there they this those to up was were what when where which while who whom "
    "whose why will with without would"
)


def content_words(text: str) -> set[str]:
    """Return the words that carry meaning, names included, without their commonest endings."""
    words = re.findall(r"[a-z]+", re.sub(r"'s\b", "", text.lower()))
    return {re.sub(r"(s|ed|ing|ly)$", "", word) for word in words if word not in SMALL.split()}


def answers_of(question: Question) -> list[str]:
    """Return the text of each span that answers *question*."""
    return [CHAPTERS[span.collection, int(span.document)][span.start : span.end] for span in question.answers]


def shared(question: Question) -> float:
    """Return the part of a question's content words that its answers use as well."""
    asked = content_words(question.text)
    return len(asked & content_words(" ".join(answers_of(question)))) / len(asked)


def test_both_novels_are_complete_and_in_the_order_of_reading() -> None:
    expected = [("northanger-abbey", index) for index in range(1, 32)] + [("persuasion", i) for i in range(1, 25)]
    assert [(chapter.book, chapter.index) for chapter in chapters()] == expected


def test_the_novels_are_small() -> None:
    assert sum(len(text.encode()) for text in CHAPTERS.values()) < SIZE_MAX


def test_text_is_in_the_form_that_it_is_stored_in() -> None:
    """So the place of a quoted span in a file is its place in the stored document."""
    for text in CHAPTERS.values():
        assert unicodedata.normalize("NFC", text) == text
        assert not set(text) & {"\r", "\0", "\t"}
        assert not text[0].isspace()


def test_there_are_eighty_questions_to_work_with_and_forty_held_back() -> None:
    assert {file: len(ASKED[file]) for file in Questions} == {Questions.WORKING: 80, Questions.HELD_BACK: 40}


@pytest.mark.parametrize("file", Questions)
def test_each_book_has_half_of_the_questions(file: Questions) -> None:
    books = Counter(question.answers[0].collection for question in ASKED[file])
    assert books == {book: len(ASKED[file]) / 2 for book in ("northanger-abbey", "persuasion")}


def test_every_chapter_is_asked_about() -> None:
    asked = {
        (span.collection, int(span.document)) for question in ASKED[Questions.WORKING] for span in question.answers
    }
    assert asked == set(CHAPTERS)


def test_no_question_is_asked_twice() -> None:
    assert len({question.id for question in ALL}) == len(ALL)
    assert len({frozenset(content_words(question.text)) for question in ALL}) == len(ALL)


def test_no_answer_of_one_file_is_an_answer_of_the_other() -> None:
    working, held_back = (
        {span for question in ASKED[file] for span in question.answers}
        for file in (Questions.WORKING, Questions.HELD_BACK)
    )
    for one in working:
        overlapping = [
            other
            for other in held_back
            if (one.collection, one.document) == (other.collection, other.document)
            and one.start < other.end
            and other.start < one.end
        ]
        assert not overlapping, one


@pytest.mark.parametrize("question", ALL, ids=lambda question: question.id)
def test_an_answer_is_found_at_one_place_of_one_chapter(question: Question) -> None:
    assert len({(span.collection, span.document) for span in question.answers}) == 1
    for span, quoted in zip(question.answers, answers_of(question), strict=True):
        assert quoted.strip() == quoted
        assert CHAPTERS[span.collection, int(span.document)].count(quoted) == 1


@pytest.mark.parametrize("question", ALL, ids=lambda question: question.id)
def test_a_question_avoids_the_words_of_its_answer(question: Question) -> None:
    assert shared(question) <= SHARED_MAX


def test_questions_share_few_words_with_their_answers_on_average() -> None:
    assert sum(map(shared, ALL)) / len(ALL) <= SHARED_MEAN_MAX
