"""
The way of an event, shown: the stack is started, an agent answers questions, and every event is found again.

    python -m deploy.examples.demo [--exit] [--dir .tidegate]

Ends with 0 only if every event of every run is in Postgres, once and in order.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console

from deploy.errors import CommandFailed
from deploy.examples import orders, reading, scenes, tasks
from deploy.examples.agent import HARBOUR, Passage, answer
from deploy.examples.proof import Diary, differences, read_rows
from deploy.local import lock, stack_file
from deploy.local.services import ENGINE
from deploy.local.settings_file import kafka_of
from deploy.local.stack_file import Stack
from gateway.client import TidegateClient, Undelivered
from schemas.kafka.connection import KafkaSettings

QUESTIONS = (
    "When did the ice close the harbour, and when was it open again?",
    "Which ship ran aground in the storm of November 1911?",
    "How high was the water on the day of the flood in January 1910?",
    "What does a ship of 250 tons pay a day at the quay?",
    "What does the pilot say of the rock Kråkan north of the mole?",
)
STORE = "documents-store"
STORED_TIMEOUT_S = 60.0
POLL_S = 0.2
READ_FIELDS = ("seq", "type", "actor", "payload")


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description="Start the stack, run an agent through it, show what became of it.")
    parser.add_argument("--exit", action="store_true", help="stop when it has been shown instead of at Ctrl-C")
    parser.add_argument("--dir", type=Path, default=Path(".tidegate"), help="folder of the stack")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else scenes.WIDTH)
    try:
        with _running(options.dir) as stack:
            kafka = kafka_of(stack, options.dir)
            faults = asyncio.run(_run(stack, kafka, console))
            scenes.addresses(console, stack, kafka, options.dir)
            if not options.exit:
                console.print("\nThis stays until Ctrl-C.")
                with suppress(KeyboardInterrupt):
                    scenes.stay(console, kafka)
    except (CommandFailed, Undelivered, TimeoutError) as error:
        sys.exit(f"the demonstration failed: {error or 'not everything was done in time'}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
    sys.exit(1 if faults else 0)


@contextmanager
def _running(folder: Path) -> Iterator[Stack]:
    """Yield the stack in *folder*: the one that runs there, or one that lives as long as the demonstration."""
    if lock.supervisor(folder):
        yield _ready(folder)
        return
    try:
        _tidegate("up", "--detach", folder=folder)
        yield _ready(folder)
    finally:
        if lock.supervisor(folder):
            _tidegate("down", folder=folder)


def _ready(folder: Path) -> Stack:
    stack = stack_file.read(folder)
    if stack is None:
        raise CommandFailed(f"the stack in {folder} is still starting: try again when `tidegate status` shows it")
    return stack


def _tidegate(*words: str, folder: Path) -> None:
    command = [sys.executable, "-m", "deploy.cli.app", *words, "--dir", str(folder)]
    environ = {"TIDEGATE_EVENT_TYPES": str(orders.TYPES)} | os.environ
    if subprocess.run(command, check=False, env=environ).returncode:
        raise CommandFailed(f"`tidegate {words[0]}` did not succeed")


async def _run(stack: Stack, kafka: KafkaSettings, console: Console) -> list[str]:
    """Return everything between the stack's start and its end; returns what is wrong."""
    console.rule(f"[bold]{len(QUESTIONS)} runs of one agent, at once, signed", align="left")
    async with _watching(stack) as watched:
        async with TidegateClient(
            stack.gateway, api_key=stack.api_key, agent_id=stack.agent_id, secret=stack.agent_secret, strict=True
        ) as client:
            told = await asyncio.gather(*(_ask(client, question) for question in QUESTIONS))
        await _until_watched(watched, sum(len(diary.told) for diary, _ in told))
    began_s = time.monotonic()
    for question, (_, passages) in zip(QUESTIONS, told, strict=True):
        scenes.answered(console, question, passages)
    diaries = [diary for diary, _ in told]
    scenes.receipts(console, diaries)
    async with aiohttp.ClientSession(stack.gateway, headers={"X-API-Key": stack.api_key}) as session:
        read = [await _read_back(session, diary) for diary in diaries]
        waited_s = time.monotonic() - began_s
        trace = await _until_found(session, f"/api/runs/{diaries[0].run.id}/trace")
        visited, worked = await asyncio.gather(_visit(session), tasks.work(session))
        evaluated = await _until_evaluated(session, stack.management.get(ENGINE), diaries)
    book = await reading.read(stack.gateway, stack.api_key) if _has_documents(stack) else None
    rows = await asyncio.to_thread(read_rows, stack.postgres, [diary.run.id for diary in diaries])
    faults = []
    for diary, events in zip(diaries, read, strict=True):
        own = [row for row in rows if row.run_id == diary.run.id]
        faults += [f"run {diary.run.id}: {fault}" for fault in differences(diary.told, diary.receipts, events, own)]
    scenes.rows(console, diaries[-1], [row for row in rows if row.run_id == diaries[-1].run.id])
    scenes.verdict(console, faults, row_count=len(rows), run_count=len(diaries), waited_s=waited_s)
    scenes.trace(console, QUESTIONS[0], trace)
    if watched is not None:
        scenes.watched(console, stack, watched)
    if evaluated is not None:
        scenes.evaluated(console, evaluated)
    scenes.visited(console, visited)
    scenes.worked(console, worked)
    if book is not None:
        scenes.found(console, book)
    await asyncio.to_thread(scenes.lag, console, kafka)
    return faults


def _has_documents(stack: Stack) -> bool:
    """Return True unless the stack was started without them."""
    return not stack.processes or any(process.name == STORE for process in stack.processes)


@asynccontextmanager
async def _watching(stack: Stack) -> AsyncIterator[Counter[str] | None]:
    """Yield how many of the agent's events a websocket has told, by run, while this is entered; None without fanout."""
    if stack.websocket is None:
        yield None
        return
    counted: Counter[str] = Counter()

    async def count(ws: aiohttp.ClientWebSocketResponse) -> None:
        async for message in ws:
            told = message.json()
            if told["type"] == "trace_event":
                counted[told["event"]["run_id"]] += 1

    headers = {"X-API-Key": stack.api_key}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.ws_connect(f"{stack.websocket}/ws/agents/{stack.agent_id}/") as ws,
    ):
        counting = asyncio.create_task(count(ws))
        try:
            yield counted
        finally:
            counting.cancel()


async def _until_watched(watched: Counter[str] | None, event_count: int) -> None:
    async with asyncio.timeout(STORED_TIMEOUT_S):
        while True:
            if watched is None or watched.total() >= event_count:
                return
            await asyncio.sleep(POLL_S)


async def _ask(client: TidegateClient, question: str) -> tuple[Diary, Sequence[Passage]]:
    async with client.run() as run:
        diary = Diary(run)
        passages = await answer(question, HARBOUR, diary)
    return diary, passages


async def _read_back(session: aiohttp.ClientSession, diary: Diary) -> list[dict[str, Any]]:
    """Return the run's events as the gateway reads them from the store, once it has as many as were told."""
    async with asyncio.timeout(STORED_TIMEOUT_S):
        while True:
            events = await _events(session, diary.run.id)
            if len(events) >= len(diary.told):
                return [{name: event[name] for name in READ_FIELDS} for event in events]
            await asyncio.sleep(POLL_S)


async def _events(session: aiohttp.ClientSession, run_id: str) -> list[Mapping[str, Any]]:
    events: list[Mapping[str, Any]] = []
    query: dict[str, str] = {}
    while True:
        async with session.get(f"/api/runs/{run_id}/events", params=query) as response:
            if response.status != 200:  # noqa: PLR2004  # not stored yet
                return events
            page = await response.json()
        events += page["events"]
        if page["next_cursor"] is None:
            return events
        query["cursor"] = page["next_cursor"]


async def _until_evaluated(
    session: aiohttp.ClientSession, engine: str | None, diaries: Sequence[Diary]
) -> list[dict[str, Any]] | None:
    """Return what the stack's own engine knows of the runs, once it knows all of it; None if webhooks go elsewhere."""
    if engine is None:
        return None
    wanted = {diary.run.id: len(diary.told) for diary in diaries}
    async with asyncio.timeout(STORED_TIMEOUT_S):
        while True:
            async with session.get(f"{engine}/") as response:
                known = {run["run_id"]: run for run in (await response.json())["runs"]}
            if all(known.get(run_id, {}).get("events", 0) >= count for run_id, count in wanted.items()):
                return [known[run_id] for run_id in wanted]
            await asyncio.sleep(POLL_S)


async def _visit(session: aiohttp.ClientSession) -> list[Mapping[str, Any]]:
    """Send what users of a shop do, in one batch; return the events once all are processed."""
    sent = orders.visits()
    async with session.post("/api/v1/events/batch", json=sent) as response:
        if response.status != 202:  # noqa: PLR2004
            raise CommandFailed(f"user events were not accepted: {await response.text()}")
    async with asyncio.timeout(STORED_TIMEOUT_S):
        while True:
            shown = [await _user_event(session, str(event["id"])) for event in sent]
            if all(event["status"] in ("processed", "failed") for event in shown):
                return shown
            await asyncio.sleep(POLL_S)


async def _user_event(session: aiohttp.ClientSession, event_id: str) -> Mapping[str, Any]:
    async with session.get(f"/api/v1/events/{event_id}") as response:
        event: Mapping[str, Any] = await response.json()
        return event


async def _until_found(session: aiohttp.ClientSession, path: str) -> dict[str, Any]:
    async with asyncio.timeout(STORED_TIMEOUT_S):
        while True:
            async with session.get(path) as response:
                if response.status == 200:  # noqa: PLR2004
                    document: dict[str, Any] = await response.json()
                    return document
            await asyncio.sleep(POLL_S)


if __name__ == "__main__":
    main()
