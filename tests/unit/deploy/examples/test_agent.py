"""The agent on its own files, reporting to a list."""

from pathlib import Path
from typing import Any

import pytest

from deploy.examples.agent import HARBOUR, answer
from deploy.examples.demo import QUESTIONS


class Events:
    """A report that remembers."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Any]] = []

    async def event(self, type: str, payload: object, *, actor: str = "agent") -> None:  # noqa: A002
        self.all.append((type, payload))

    def of(self, type_: str) -> list[Any]:
        return [payload for type, payload in self.all if type == type_]  # noqa: A001


@pytest.mark.parametrize(
    ("question", "file", "says"),
    [
        (QUESTIONS[0], "harbour-log-1909.txt", "Ice closed"),
        (QUESTIONS[1], "harbour-log-1911.txt", "Castor"),
        (QUESTIONS[2], "tide-table-1910.txt", "9 ft 3 in"),
        (QUESTIONS[3], "dues.txt", "5 crowns a day"),
        (QUESTIONS[4], "pilot-notes.txt", "six feet"),
    ],
)
async def test_each_question_of_the_demonstration_is_answered(question: str, file: str, says: str) -> None:
    found = await answer(question, HARBOUR, Events())
    assert found[0].file == file
    assert says in found[0].text
    # The passage stands where the agent says: the first word of it is on that line.
    lines = (HARBOUR / file).read_text("latin-1").splitlines()
    assert lines[found[0].line - 1].split()[0] == found[0].text.split()[0]


async def test_every_call_has_its_result_or_its_error() -> None:
    events = Events()
    await answer(QUESTIONS[1], HARBOUR, events)
    calls = [call["call_id"] for call in events.of("tool_call")]
    answered = [one["call_id"] for type_, one in events.all if type_ in ("tool_result", "error")]
    assert calls == answered
    assert len(set(calls)) == len(calls)


async def test_a_missing_file_is_an_error_and_the_work_goes_on() -> None:
    events = Events()
    found = await answer(QUESTIONS[1], HARBOUR, events)
    (error,) = [one for one in events.of("error") if not one["retry"]]
    assert error["detail"] == "lightship-1911.txt: No such file or directory"
    assert found


async def test_a_file_in_another_encoding_is_read_at_the_second_attempt() -> None:
    events = Events()
    await answer(QUESTIONS[4], HARBOUR, events)
    reads = [call for call in events.of("tool_call") if call["arguments"].get("name") == "pilot-notes.txt"]
    assert [(call["attempt"], call["arguments"]["encoding"]) for call in reads] == [(1, "utf-8"), (2, "latin-1")]
    assert [one["retry"] for one in events.of("error")] == [True]


async def test_words_read_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("HEADING\n\nthe cat sat\n")
    events = Events()
    await answer("Where is the cat?", tmp_path, events)
    counts = [(one["tool"], one["usage"]["words_read"]) for one in events.of("tool_result")]
    assert counts == [("list_files", 1), ("search", 3), ("read_file", 4)]


async def test_without_an_answer_the_agent_says_so(tmp_path: Path) -> None:
    events = Events()
    assert await answer("Who is it?", tmp_path / "missing", events) == []
    assert events.of("message")[-1]["sources"] == []
    assert [one["error"] for one in events.of("error")] == ["ToolFailed"]
