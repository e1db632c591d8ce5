"""`tidegate documents evaluate`: how high searches rank the passages that answer labelled questions."""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import typer

from deploy.admin.documents import Documents
from deploy.cli.document_options import documents
from deploy.cli.document_searching import Mode
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import console, print_json, progress_bar, table
from deploy.errors import CommandFailed
from deploy.load.questions import NotQuestions, read_questions, span_of, text_of_chunks
from deploy.load.retrieval import HITS_MAX, Figure, Figures, Question, Ranking, figures

CONCURRENT = 4
COLUMNS = ("search", "questions", "hit at 1", "hit at 5", "hit at 10", "MRR at 10", "nDCG at 10")
FIGURES = ("hit_at_1", "hit_at_5", "hit_at_10", "mrr_at_10", "ndcg_at_10")


def evaluate(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, metavar="QUESTIONS", help="A JSON list of labelled questions."),
    ],
    folder: Dir = DEFAULT_DIR,
    *,
    mode: Annotated[
        list[Mode] | None, typer.Option(help="Only searches of this kind; may be repeated. All by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """
    Ask labelled questions, and show how high the passages rank that answer them, with 95% intervals.

    A question has id, book, chapter, question and spans: quotations of the stored text. Each is searched in its book.
    """
    api = documents(folder)

    @cache
    def text_of(book: str, chapter: str) -> str:
        return text_of_chunks(api.chunks(book, chapter))

    try:
        questions = read_questions(file, text_of)
    except NotQuestions as error:
        raise CommandFailed(str(error)) from error
    modes = list(dict.fromkeys(mode)) if mode else list(Mode)
    found: dict[Mode, Figures] = {}
    with progress_bar(shown=not as_json) as bars:
        for each in modes:
            bar = bars.add_task(each.value, total=len(questions))
            found[each] = figures(_rankings(api, questions, each, partial(bars.advance, bar)))
    if as_json:
        print_json({each.value: dataclasses.asdict(of_mode) for each, of_mode in found.items()})
        return
    rows = (
        (each.value, of_mode.questions, *(_words(getattr(of_mode, name)) for name in FIGURES))
        for each, of_mode in found.items()
    )
    console.print(table(COLUMNS, rows))


def _rankings(
    api: Documents, questions: Sequence[Question], mode: Mode, on_answer: Callable[[], None]
) -> list[Ranking]:
    def ask(question: Question) -> Ranking:
        books = list(dict.fromkeys(answer.collection for answer in question.answers))
        answer = api.search({"query": question.text, "k": HITS_MAX, "mode": mode.value, "collections": books})
        if answer["degraded"]:
            raise CommandFailed(f"a leg of the search failed: {answer['degraded']}; no figure would be true")
        return Ranking(question=question, hits=tuple(span_of(hit) for hit in answer["hits"]))

    rankings = []
    with ThreadPoolExecutor(CONCURRENT) as threads:
        for ranking in threads.map(ask, questions):
            rankings.append(ranking)
            on_answer()
    return rankings


def _words(figure: Figure) -> str:
    return f"{figure.mean:.2f} ({figure.low:.2f} to {figure.high:.2f})"
