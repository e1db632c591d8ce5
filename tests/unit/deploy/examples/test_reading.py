"""The demonstration's novel: chapters indexed, a question asked, a passage shown."""

from collections.abc import AsyncIterator

import pytest
from rich.console import Console

from deploy.errors import CommandFailed
from deploy.examples import reading, scenes
from schemas.documents.states import Phase
from tests.unit.gateway.client.fake_documents import FakeDocuments


@pytest.fixture
async def gateway() -> AsyncIterator[FakeDocuments]:
    async with FakeDocuments().running() as running:
        yield running


async def test_the_chapters_are_indexed_and_the_passage_is_shown_with_both_ranks(gateway: FakeDocuments) -> None:
    found = await reading.read(gateway.url, "k")
    assert found.chapters == len(gateway.commands) == reading.CHAPTERS
    assert any(reading.PASSAGE in command["text"] for command in gateway.commands.values())
    console = Console(width=200, record=True)
    scenes.found(console, found)
    shown = console.export_text()
    assert "4 chapters (" in shown
    assert "The ice closed the harbour on 4 January." in shown


async def test_a_chapter_that_is_not_taken_or_not_stored_ends_the_demonstration(gateway: FakeDocuments) -> None:
    gateway.misdeeds = [422]
    with pytest.raises(CommandFailed, match="a chapter was not taken: CODE_422"):
        await reading.read(gateway.url, "k")
    gateway.end = Phase.FAILED
    with pytest.raises(CommandFailed, match="a chapter ended as failed"):
        await reading.read(gateway.url, "k")


def test_a_long_passage_begins_near_what_answers() -> None:
    text = f"{'word ' * 100}{reading.PASSAGE}{' word' * 100}"
    shown = scenes.passage(text)
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert reading.PASSAGE in shown
