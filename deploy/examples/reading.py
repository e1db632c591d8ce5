"""The first chapters of a novel, indexed, and a question that one of them answers."""

from dataclasses import dataclass

from deploy.errors import CommandFailed
from deploy.examples.chapters import chapters
from gateway.client import Found, NewDocument, TidegateDocuments

BOOK = "persuasion"
CHAPTERS = 4
QUESTION = "What is the only thing that Sir Walter Elliot reads for pleasure?"
PASSAGE = "never took up any book but the Baronetage"
HITS = 3
STORED_TIMEOUT_S = 120.0  # a first start loads the model


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The chapters that were indexed, and what was found."""

    chapters: int
    characters: int
    found: Found


async def read(url: str, api_key: str) -> Reading:
    """
    Index the chapters, wait until they can be found, and ask the question.

    Raises:
        CommandFailed: a chapter was not taken, or not stored.
    """
    own = [chapter for chapter in chapters() if chapter.book == BOOK and chapter.index <= CHAPTERS]
    async with TidegateDocuments(url, api_key=api_key) as documents:
        results = await documents.submit_many(
            NewDocument(book_slug=BOOK, chapter_index=each.index, text=each.text, metadata={"author": "Jane Austen"})
            for each in own
        )
        if errors := [result.error for result in results if result.error is not None]:
            raise CommandFailed(f"a chapter was not taken: {errors[0]}")
        if not await documents.wait_for_completion(STORED_TIMEOUT_S):
            raise CommandFailed(f"the chapters were not stored within {STORED_TIMEOUT_S:.0f} s")
        if lost := [phase for phase in documents.outcomes.values() if phase not in ("stored", "unchanged")]:
            raise CommandFailed(f"a chapter ended as {lost[0]}")
        found = await documents.search(QUESTION, HITS, collections=[BOOK])
    return Reading(chapters=len(own), characters=sum(len(each.text) for each in own), found=found)
