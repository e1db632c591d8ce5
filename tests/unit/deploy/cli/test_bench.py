"""`tidegate bench documents` against a gateway that stores at once."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from xml.etree import ElementTree as ET

import pytest
import typer

from deploy.errors import CommandFailed
from tests.unit.deploy.cli.conftest import Command
from tests.unit.gateway.client.fake_documents import FakeDocuments


@pytest.fixture
def gateway(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDocuments]:
    """Yield a gateway that commands call; it runs in a thread of its own, since a command has an event loop."""
    assert folder
    found, is_up, ends = FakeDocuments(), Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with found.running():
            is_up.set()
            await ends.wait()

    thread = Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert is_up.wait(10)
    monkeypatch.setenv("TIDEGATE_GATEWAY", found.url)
    monkeypatch.setenv("TIDEGATE_API_KEY", "tg_key")
    yield found
    loop.call_soon_threadsafe(ends.set)
    thread.join()
    loop.close()


def test_steps_and_a_steady_rate_are_measured_written_and_drawn(
    command: Command, gateway: FakeDocuments, tmp_path: Path
) -> None:
    out, plot = tmp_path / "found.json", tmp_path / "found.svg"
    options = ("--counts", "3,5", "--warm-up", "2", "--rate", "100", "--sustained", "0.05", "--words", "20")
    said = json.loads(command("bench", "documents", *options, "--out", str(out), "--plot", str(plot), "--json"))
    assert said == json.loads(out.read_text())
    assert said["embedder"] == {"name": "hash", "id": "e"}
    assert [step["documents"] for step in said["scaling"]] == [3, 5]
    assert said["sustained"]["step"]["outcomes"] == {"stored": 5}
    texts = [each.text for each in ET.fromstring(plot.read_text()).iter("{http://www.w3.org/2000/svg}text")]
    assert "Throughput by the size of the step" in texts
    assert any("embedder hash, 20 words a text" in str(text) for text in texts)
    assert gateway.requests[-1][:2] == ("DELETE", f"/api/documents/{book_of(gateway)}")


def test_a_document_that_is_not_stored_fails_the_command_after_its_figures(
    command: Command, gateway: FakeDocuments
) -> None:
    gateway.misdeeds = [422]
    with pytest.raises(CommandFailed, match="1 documents were not stored"):
        command("bench", "documents", "--counts", "3", "--warm-up", "0", "--sustained", "0", "--keep")
    assert all(method != "DELETE" for method, *_ in gateway.requests)


def test_counts_are_numbers(command: Command, gateway: FakeDocuments) -> None:
    for wrong in ("", "0", "1,x"):
        with pytest.raises((typer.BadParameter, AssertionError), match="numbers from 1 on"):
            command("bench", "documents", "--counts", wrong)
    assert gateway.requests == []


def book_of(gateway: FakeDocuments) -> str:
    """Return the book of the measurement."""
    [book] = {command["book_slug"] for command in gateway.commands.values()}
    return str(book)
