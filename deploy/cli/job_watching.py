"""Waiting for the end of a job: by asking the API, and with what its websocket tells meanwhile."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, WSMsgType

from deploy.admin.tasks import FINISHED, Document, Tasks
from deploy.cli.addresses import Addresses
from deploy.cli.job_rows import progress_text
from deploy.cli.output import console, plain, progress_bar
from deploy.errors import CommandFailed

POLL_FIRST_S = 0.1
POLL_MAX_S = 2.0
LATE_S = 2.0  # what the websocket may be behind the tables
CONNECT_S = 10.0
PAUSE_S = 0.5
NOT_VALID = 4401  # the key is not in force any more
PERCENT = 100


def wait(tasks: Tasks, job_id: str, *, shown: bool, sleep: Callable[[float], None] = time.sleep) -> Document:
    """Return the job when it is finished; its progress is *shown* on a terminal."""
    pause_s = POLL_FIRST_S
    with progress_bar(shown=shown) as bars:
        bar = bars.add_task("waiting", total=PERCENT)
        while (job := tasks.job(job_id))["status"] not in FINISHED:
            progress = job.get("progress") or {}
            words = plain(progress.get("message") or job["status"])
            bars.update(bar, completed=PERCENT * (progress.get("fraction") or 0.0), description=words)
            sleep(pause_s)
            pause_s = min(2 * pause_s, POLL_MAX_S)
    return job


async def follow(known: Addresses, tasks: Tasks, job_id: str, *, as_json: bool) -> None:
    """
    Print the states, progress and output of a job as they come, until it is finished.

    Raises:
        CommandFailed: the key is not in force any more, or the API does not answer.
    """
    address, key = f"{known.need('websocket')}/ws/tasks/{job_id}/", known.need("api_key")
    ended = asyncio.Event()
    showing = asyncio.create_task(_show(address, key, ended, as_json=as_json))
    pause_s = POLL_FIRST_S
    try:
        while (await asyncio.to_thread(tasks.job, job_id))["status"] not in FINISHED:
            await _first_of(ended, showing, within_s=pause_s)
            pause_s = min(2 * pause_s, POLL_MAX_S)
        await _first_of(ended, showing, within_s=LATE_S)
    finally:
        showing.cancel()
        await asyncio.wait((showing,))  # its session is closed then


async def _first_of(ended: asyncio.Event, showing: "asyncio.Task[None]", *, within_s: float) -> None:
    """Wait for the job's end, so long at most; raise what ended *showing*."""
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait((waiting, showing), timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if showing.done():
        showing.result()


async def _show(address: str, key: str, ended: asyncio.Event, *, as_json: bool) -> None:
    cursor = ""
    timeout = ClientTimeout(total=None, connect=CONNECT_S)
    async with ClientSession(headers={"X-API-Key": key}, timeout=timeout) as session:
        while True:
            with suppress(ClientError, TimeoutError):  # and again, from the last cursor
                async with session.ws_connect(f"{address}?cursor={cursor}" if cursor else address) as socket:
                    async for received in socket:
                        if received.type is not WSMsgType.TEXT:
                            break
                        message = json.loads(received.data)
                        cursor = message.get("cursor", cursor)
                        if message["type"] == "ping":
                            await socket.send_str('{"type":"pong"}')
                        elif message["type"].startswith("task_"):
                            _print(message, as_json=as_json)
                        if message.get("status") in FINISHED:
                            ended.set()
                if socket.close_code == NOT_VALID:
                    raise CommandFailed("the API key is not in force any more")
            await asyncio.sleep(PAUSE_S)


def _print(message: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(message, ensure_ascii=False) + "\n")
        sys.stdout.flush()
        return
    for line in lines(message):
        console.print(line, markup=False, soft_wrap=True)


def lines(message: Mapping[str, Any]) -> list[str]:
    """Return what a message says, a line each."""
    match message["type"]:
        case "task_state":
            why = message.get("error") or message.get("reason")
            return [f"state     {message['status']}" + (f": {plain(str(why))}" if why else "")]
        case "task_progress":
            return [f"progress  {plain(progress_text(message))}"]
        case "task_output":
            return [f"output    {plain(line.expandtabs())}" for line in message["text"].splitlines()]
        case _:
            return []
