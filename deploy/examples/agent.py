"""
A small agent: it answers a question about a folder of text files and reports each step as an event.

It thinks by counting words and asks no language model, but the work is real: it lists, searches and reads files,
meets missing and undecodable ones, tries again, and says where its answer stands.

    python -m deploy.examples.agent "Which ship ran aground?" --folder deploy/examples/harbour
"""

import argparse
import asyncio
import dataclasses
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from deploy.cli import addresses
from deploy.errors import CommandFailed
from deploy.examples import tools
from gateway.client import TidegateClient, Undelivered

HARBOUR = Path(__file__).parent / "harbour"
INDEX = "index.txt"
ENCODINGS = ("utf-8", "latin-1")
FILES_READ_MAX = 3
PASSAGES_MAX = 2
STEM_CHARACTERS_MIN = 3
NOTHING_FOUND = "Nothing in these files speaks of it."

_STOP_WORDS = (
    "a about again an and are as at be by did do does for from had has have how i in is it its much of on or say "
    "that the their them then there they this to was were what when where which who why with"
)

Result = TypeVar("Result")


class Report(Protocol):
    """The destination of events: a `gateway.client.Run`."""

    async def event(self, type: str, payload: object, *, actor: str = "agent") -> None:  # noqa: A002
        """Take one event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A paragraph and where it begins."""

    file: str
    line: int
    text: str


async def answer(question: str, folder: Path, report: Report) -> Sequence[Passage]:
    """Return the passages in *folder* that answer *question* best, best first; none if nothing there speaks of it."""
    await report.event("message", {"role": "user", "text": question}, actor="user")
    stems = _stems(question)
    await report.event("reasoning", {"text": f"The question speaks of: {', '.join(stems)}."})
    desk = _Desk(folder, report)
    files = await desk.use(tools.list_files) or []
    weights, scores = await _survey(desk, stems)
    for name, description in (await _index(desk, files)).items():
        scores[name] = scores.get(name, 0.0) + _score(description, weights)
    promising = sorted((name for name in scores if scores[name] > 0), key=lambda name: (-scores[name], name))
    thought = {"text": "Most promising first.", "files": {name: round(scores[name], 2) for name in promising}}
    await report.event("reasoning", thought)

    passages = await _read_passages(desk, promising)
    told = sorted(passages, key=lambda passage: -_score(passage.text, weights))[:PASSAGES_MAX]
    best = [passage for passage in told if _score(passage.text, weights) > 0]
    text = "\n".join(passage.text for passage in best) or NOTHING_FOUND
    sources = [{"file": passage.file, "line": passage.line} for passage in best]
    usage = {"words_written": len(text.split())}
    await report.event("message", {"role": "assistant", "text": text, "sources": sources, "usage": usage})
    return best


class _Desk:
    """The agent's access to tools; it reports each use: a call, then its result or error, joined by `call_id`."""

    def __init__(self, folder: Path, report: Report) -> None:
        self._folder = folder
        self._report = report
        self._calls = 0

    async def use(self, tool: Callable[..., Result], *, attempt: int = 1, **arguments: str) -> Result | None:
        """
        Return what *tool* returns, or None if it failed.

        Raises:
            OtherEncoding: reported as an error already; try again.
        """
        self._calls += 1
        call = {"call_id": f"call-{self._calls}", "attempt": attempt}
        name = tool.__name__
        await self._report.event("tool_call", {"tool": name, "arguments": arguments, **call})
        try:
            result = await asyncio.to_thread(tool, self._folder, **arguments)
        except tools.ToolFailed as error:
            again = isinstance(error, tools.OtherEncoding)
            failure = {"tool": name, "error": type(error).__name__, "detail": str(error), "retry": again, **call}
            await self._report.event("error", failure, actor="tool")
            if again:
                raise
            return None
        items = result if isinstance(result, list) else [result]
        texts = [item.text if isinstance(item, tools.Match) else str(item) for item in items]
        shown = [dataclasses.asdict(item) if isinstance(item, tools.Match) else item for item in items]
        usage = {"words_read": sum(len(text.split()) for text in texts)}
        await self._report.event("tool_result", {"tool": name, "result": shown, "usage": usage, **call}, actor="tool")
        return result


async def _survey(desk: _Desk, stems: Iterable[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Search each stem: how much it tells (rarer is more), and how much each file has of what tells."""
    weights: dict[str, float] = {}
    scores: dict[str, float] = {}
    for stem in stems:
        matches = await desk.use(tools.search, stem=stem) or []
        weights[stem] = 1 / math.log2(2 + len(matches))
        for name in {match.file for match in matches} - {INDEX}:
            scores[name] = scores.get(name, 0.0) + weights[stem]
    return weights, scores


async def _index(desk: _Desk, files: Iterable[str]) -> dict[str, str]:
    """Return what the folder's index says of each file that it names, there or not."""
    text = await _read(desk, INDEX) if INDEX in files else None
    entries = [line.partition(" ") for line in (text or "").splitlines()]
    return {name: description for name, _, description in entries if name != INDEX}


async def _read_passages(desk: _Desk, names: Iterable[str]) -> list[Passage]:
    """Return the paragraphs of the first files that can be read."""
    passages: list[Passage] = []
    read_count = 0
    for name in names:
        if read_count == FILES_READ_MAX:
            break
        if (text := await _read(desk, name)) is not None:
            passages += _paragraphs(name, text)
            read_count += 1
    return passages


async def _read(desk: _Desk, name: str) -> str | None:
    for attempt, encoding in enumerate(ENCODINGS, 1):
        try:
            return await desk.use(tools.read_file, attempt=attempt, name=name, encoding=encoding)
        except tools.OtherEncoding:
            continue
    return None


def _stems(question: str) -> list[str]:
    words = dict.fromkeys(re.findall(r"\w+", question.lower()))
    ignored = _STOP_WORDS.split()
    return [_stem(word) for word in words if word not in ignored and len(word) >= STEM_CHARACTERS_MIN]


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= STEM_CHARACTERS_MIN:
            return word.removesuffix(ending)
    return word


def _score(text: str, weights: Mapping[str, float]) -> float:
    return sum(weight for stem, weight in weights.items() if re.search(rf"\b{re.escape(stem)}", text, re.IGNORECASE))


def _paragraphs(name: str, text: str) -> list[Passage]:
    """Return what the file says below its heading."""
    passages, line = [], 1
    # The blank lines between are kept in the split, so that lines can be counted.
    for part in re.split(r"(\n{2,})", text):
        if part.strip() and line > 1:
            passages.append(Passage(file=name, line=line, text=" ".join(part.split())))
        line += part.count("\n")
    return passages


async def _main() -> None:
    parser = argparse.ArgumentParser(description="Answer a question about a folder of text files, and report the run.")
    parser.add_argument("question")
    parser.add_argument("--folder", type=Path, default=HARBOUR)
    parser.add_argument("--dir", type=Path, default=Path(".tidegate"), help="folder of the stack to report to")
    options = parser.parse_args()
    known = addresses.read(options.dir, os.environ)
    async with (
        TidegateClient(
            known.need("gateway"),
            api_key=known.need("api_key"),
            agent_id=known.need("agent_id"),
            secret=known.agent_secret,
            strict=True,  # an example that lost an event must say so
        ) as client,
        client.run() as run,
    ):
        found = await answer(options.question, options.folder, run)
    print("\n".join(f"{one.text}  ({one.file}, line {one.line})" for one in found) or NOTHING_FOUND)
    print(f"run {run.id}: {run.accepted_count} events in the log")


if __name__ == "__main__":
    try:
        asyncio.run(_main())
    except (CommandFailed, Undelivered) as error:
        sys.exit(str(error))
