"""The output of the demonstration, scene by scene."""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from deploy.admin.lag import measure
from deploy.cli.output import masked, table
from deploy.cli.tail import kcat
from deploy.examples.agent import NOTHING_FOUND, Passage
from deploy.examples.proof import Diary, Row
from deploy.examples.reading import PASSAGE, QUESTION, Reading
from deploy.local.development import PLAIN_AGENT
from deploy.local.services import ENGINE
from deploy.local.stack_file import NAME, Stack
from deploy.log.reading import Edge
from schemas.kafka.connection import KafkaSettings
from schemas.runs.topics import RUN_EVENTS

WIDTH = 120  # columns where there is no terminal to ask
PAYLOAD_CHARACTERS_MAX = 72
LAG_TIMEOUT_S = 15.0
LAG_EVERY_S = 1.0


def answered(console: Console, question: str, passages: Sequence[Passage]) -> None:
    """Print a question and the answer that was found."""
    console.print(f"\n[bold]{question}")
    for passage in passages[:1]:
        console.print(f"{passage.text} [dim]({passage.file}, line {passage.line})", markup=True)
    if not passages:
        console.print(NOTHING_FOUND)


def receipts(console: Console, diaries: Sequence[Diary]) -> None:
    """Print what the gateway promised for each run."""
    _title(console, "Receipts: each event was answered 202 once it was in the log")
    rows = [
        (diary.run.id, diary.run.accepted_count, diary.run.dropped_count, diary.receipts[0], diary.receipts[-1])
        for diary in diaries
    ]
    console.print(table(("run", "accepted", "dropped", "first receipt", "last receipt"), rows))


def rows(console: Console, diary: Diary, stored: Sequence[Row]) -> None:
    """Print one run as Postgres has it, in the order of the log."""
    _title(console, f"Postgres: the rows of run {diary.run.id} in the order of the log")
    payloads = [json.dumps(event.payload, ensure_ascii=False) for event in diary.told]
    shown = [
        (row.seq, row.actor, row.type, _cut(payload), row.wal_id)
        for row, payload in zip(stored, payloads, strict=False)  # a difference is told by the verdict
    ]
    console.print(table(("seq", "actor", "type", "payload", "place in the log"), shown))


def verdict(console: Console, faults: Sequence[str], *, row_count: int, run_count: int, waited_s: float) -> None:
    """Print whether everything is there."""
    console.print()
    for fault in faults:
        console.print(fault, style="red", markup=False)
    if not faults:
        console.print(
            f"Verified: the {row_count} events of {run_count} runs are in Postgres, each once, in order and unchanged, "
            f"at the places of their receipts ({waited_s:.1f} s after the last answer).",
            style="green",
        )


def trace(console: Console, question: str, document: Mapping[str, object]) -> None:
    """Print the trace record of one finalized run."""
    _title(console, f"The trace record of the first run ({question})")
    console.print_json(json.dumps(document))


def watched(console: Console, stack: Stack, counted: Mapping[str, int]) -> None:
    """Print how many events of each run one websocket of the agent received while the runs went on."""
    _title(console, f"Live: {stack.websocket}/ws/agents/{stack.agent_id}/ sent each event as it came")
    console.print(table(("run", "events sent"), counted.items()))


def evaluated(console: Console, runs: Sequence[Mapping[str, object]]) -> None:
    """Print what the example of an evaluation engine made of the webhooks that it was sent."""
    _title(console, "The evaluation engine: each event sent as a signed webhook, verified and scored by it")
    rows = [(run["run_id"], run["status"], run["events"], run["errors"], _types(run["types"])) for run in runs]
    console.print(table(("run", "status", "events", "errors", "of which type"), rows))


def visited(console: Console, events: Sequence[Mapping[str, object]]) -> None:
    """Print what users of a shop did, and what a function made of their orders."""
    _title(console, "User events: a batch over HTTP, rows in Postgres, orders processed by deploy/examples/orders.py")
    rows = [
        (event["user_id"], event["type"], event["name"], event["status"], _cut(json.dumps(event["result"] or {})))
        for event in events
    ]
    console.print(table(("user", "type", "name", "status", "result"), rows))


def worked(console: Console, jobs: Sequence[Mapping[str, Any]]) -> None:
    """Print what became of background jobs."""
    _title(console, "Background jobs: submitted in a batch, run by an executor in processes of their own")
    rows = [
        (
            job["metadata"]["what"],
            job["priority"],
            job["status"],
            job["runs"],
            _seconds(job["created_at"], job["attempt_history"][-1]["started_at"]),
            _seconds(job["attempt_history"][-1]["started_at"], job["finished_at"]),
            _cut(json.dumps(job["result"]) if "result" in job else job["error"] or f"{job['status']} while it ran"),
        )
        for job in jobs
    ]
    console.print(table(("job", "priority", "status", "attempts", "waited", "took", "result"), rows))


def found(console: Console, reading: Reading) -> None:
    """Print a question about a novel, and the passages that were found, the best first."""
    _title(console, f"Documents: {reading.chapters} chapters ({reading.characters:,} characters) embedded and searched")
    console.print(f"[bold]{QUESTION}")
    rows = [
        (
            f"{hit.document.book_slug}/{hit.document.chapter_index}",
            "-" if hit.vector is None else hit.vector.rank,
            "-" if hit.words is None else hit.words.rank,
            passage(hit.text),
        )
        for hit in reading.found.hits
    ]
    console.print(table(("document", "rank by meaning", "rank by words", "passage"), rows))


def passage(text: str) -> str:
    """Return a passage on one line: from what answers the question on, where it has that."""
    line = " ".join(text.split())
    start = max(0, line.find(PASSAGE) - PAYLOAD_CHARACTERS_MAX // 2)
    shown = line[start : start + 2 * PAYLOAD_CHARACTERS_MAX]
    return f"{'…' if start else ''}{shown}{'…' if start + len(shown) < len(line) else ''}"


def _seconds(start: str | None, end: str | None) -> str | None:
    if start is None or end is None:
        return None
    return f"{(datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds():.2f} s"


def _types(counts: object) -> str:
    assert isinstance(counts, dict), "the engine counts by type"
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def lag(console: Console, kafka: KafkaSettings) -> None:
    """Print how far each group is behind, once it has had time to commit."""
    _title(console, "Lag: what each consumer group has still to do")
    deadline_s = time.monotonic() + LAG_TIMEOUT_S
    while any(partition.records for partition in measure(kafka)) and time.monotonic() < deadline_s:
        time.sleep(LAG_EVERY_S)
    console.print(_lag(kafka))


def addresses(console: Console, stack: Stack, kafka: KafkaSettings, folder: Path) -> None:
    """Print where to look, and what to try."""
    _title(console, f"Where to look (with secrets: {folder / NAME})")
    places = [("gateway", stack.gateway), ("API page", f"{stack.gateway}/docs")]
    if stack.websocket:
        places.append(("live streams", stack.websocket))
    places += [
        ("evaluation engine", f"{url}/") if name == ENGINE else (f"{name} metrics", f"{url}/metrics")
        for name, url in stack.management.items()
    ]
    places += [("Kafka", stack.kafka), ("Postgres", masked(stack.postgres))]
    for name, place in places:
        _line(console, f"{name:<20} {place}")
    _title(console, "The same events by kcat, or decoded: tidegate tail run.events --from beginning")
    begin = Edge.BEGINNING
    _line(console, kcat(kafka, RUN_EVENTS.name, begin, run_id=None, count=None, follow=False))
    _title(console, "Send one event yourself")
    _line(console, curl(stack))


def curl(stack: Stack) -> str:
    """Return a command that sends the first event of a new run, unsigned."""
    run_id = f"hello-{secrets.token_hex(3)}"
    event = {
        "seq": 1,
        "t": "2025-12-05T10:00:00Z",
        "actor": "user",
        "type": "message",
        "payload": {"text": "hello"},
        "meta": {"run_id": run_id, "agent_id": PLAIN_AGENT},
    }
    return (
        f"curl -i {stack.gateway}/api/runs/{run_id}/events/ -H 'X-API-Key: {stack.api_key}' "
        f"-H 'Content-Type: application/json' -d '{json.dumps(event)}'"
    )


def stay(console: Console, kafka: KafkaSettings) -> None:
    """Stay until Ctrl-C; on a terminal the lag is kept up to date."""
    pause = Event()
    if not console.is_terminal:
        pause.wait()
    with Live(_lag(kafka), console=console, auto_refresh=False, transient=True) as live:
        while not pause.wait(LAG_EVERY_S):
            live.update(_lag(kafka), refresh=True)


def _lag(kafka: KafkaSettings) -> Table:
    partitions = measure(kafka)
    rows = []
    for group, topic in dict.fromkeys((each.group, each.topic) for each in partitions):
        own = [each for each in partitions if (each.group, each.topic) == (group, topic)]
        rows.append((group, topic, len(own), sum(each.end for each in own), sum(each.records or 0 for each in own)))
    return table(("group", "topic", "partitions", "records", "lag"), rows)


def _title(console: Console, text: str) -> None:
    console.print()
    console.rule(f"[bold]{text}", align="left")


def _line(console: Console, text: str) -> None:
    """Print a line to be copied: not wrapped, not coloured."""
    console.print(text, markup=False, soft_wrap=True)


def _cut(text: str) -> str:
    return text if len(text) <= PAYLOAD_CHARACTERS_MAX else f"{text[: PAYLOAD_CHARACTERS_MAX - 1]}…"
