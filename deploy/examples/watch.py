"""
A follower of a run: it reads stored events page by page, then live ones on a websocket, which it reopens on failure.

No event is missed: the first page names the position where the websocket begins, and each message the position
where the next one would.

    python -m deploy.examples.watch my-run             # until the run is finalized and its trace record is there
    python -m deploy.examples.watch my-run --for 10    # for ten seconds
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, WSMsgType

from deploy.cli import addresses
from deploy.errors import CommandFailed, NotReachable

TIMEOUT = ClientTimeout(total=10)
PAUSE_S = 0.5
PAUSE_MAX_S = 10.0
FORGOTTEN = "4401"  # the key was revoked, or has expired

Message = Mapping[str, Any]


async def stored(session: ClientSession, gateway: str, run_id: str) -> tuple[list[Message], str | None]:
    """Return every event that is stored, and the cursor of the websocket that goes on from there."""
    events: list[Message] = []
    live_cursor, target = None, f"{gateway}/api/runs/{run_id}/events?limit=500"
    while target:
        async with session.get(target, timeout=TIMEOUT) as answer:
            if answer.status == 404:  # noqa: PLR2004  # no such run yet
                return [], None
            answer.raise_for_status()
            page = await answer.json()
            target = str(answer.links["next"]["url"]) if "next" in answer.links else ""
        live_cursor = live_cursor or page["live_cursor"]  # of the first page
        events += page["events"]
    return events, live_cursor


async def follow(session: ClientSession, websocket: str, run_id: str, cursor: str | None) -> AsyncIterator[Message]:
    """Yield what happens in the run from *cursor* on, over as many websockets as it takes."""
    pause_s = PAUSE_S
    while True:
        with suppress(ClientError, TimeoutError):  # and again, from the last cursor
            async with session.ws_connect(await _address(session, websocket, run_id, cursor)) as socket:
                async for received in socket:
                    if received.type is not WSMsgType.TEXT:
                        break
                    message = json.loads(received.data)
                    cursor, pause_s = message.get("cursor", cursor), PAUSE_S
                    if message["type"] == "ping":
                        await socket.send_str('{"type":"pong"}')
                    else:
                        yield message
            if str(socket.close_code) == FORGOTTEN:
                raise CommandFailed("the API key is not in force any more")
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_MAX_S)


async def _address(session: ClientSession, websocket: str, run_id: str, cursor: str | None) -> str:
    """Return where to connect: a ticket stands in the URL, as a web page would have it, and never the key."""
    async with session.post(f"{websocket.replace('ws', 'http', 1)}/ws-tickets", timeout=TIMEOUT) as answer:
        if answer.status in (401, 403):
            raise CommandFailed(f"no ticket: {(await answer.json())['detail']}")
        answer.raise_for_status()
        ticket = (await answer.json())["ticket"]
    resume = f"&cursor={cursor}" if cursor else ""
    return f"{websocket}/ws/runs/{run_id}/?ticket={ticket}{resume}"


async def watch(run_id: str, known: addresses.Addresses) -> None:
    """Print what is stored of the run and what happens in it, each event once, until its trace record is there."""
    shown: set[int] = set()
    async with ClientSession(headers={"X-API-Key": known.need("api_key")}) as session:
        try:
            events, cursor = await stored(session, known.need("gateway"), run_id)
        except (ClientError, TimeoutError) as error:
            raise NotReachable(f"the gateway does not answer: {error}") from error
        for event in events:
            shown.add(event["seq"])
            print(f"stored  {_line(event)}")
        async for message in follow(session, known.need("websocket"), run_id, cursor):
            if message["type"] == "trace_event" and message["event"]["seq"] not in shown:
                shown.add(message["event"]["seq"])
                print(f"live    {_line(message['event'])}")
            elif message["type"] == "reset":
                print(
                    f"reset   {message['reason']}: what happened meanwhile is stored, and shown when this starts again"
                )
            elif message["type"] == "run_finalized":
                print(f"closed  {message['status']}")
            elif message["type"] == "trace_record":
                print(f"trace   {message['trace']['event_count']} events, chain {message['trace']['chain_head'][:16]}")
                return


def _line(event: Message) -> str:
    return f"{event['seq']:>5} {event['actor']} {event['type']} {json.dumps(event['payload'])[:80]}"


async def _main() -> None:
    parser = argparse.ArgumentParser(description="Follow a run: what is stored of it, then what happens.")
    parser.add_argument("run_id")
    parser.add_argument("--for", type=float, dest="seconds", metavar="S", help="end after so many seconds")
    parser.add_argument("--dir", type=Path, default=Path(".tidegate"), help="folder of the stack to look at")
    options = parser.parse_args()
    with suppress(TimeoutError):
        async with asyncio.timeout(options.seconds):
            await watch(options.run_id, addresses.read(options.dir, os.environ))


if __name__ == "__main__":
    try:
        asyncio.run(_main())
    except CommandFailed as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
