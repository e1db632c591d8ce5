"""Live streams under kill -9: whoever comes back with its cursor holds every event once and in order."""

import asyncio
import json
from secrets import token_hex

import aiohttp
import pytest

from tests.faults.processes import resident_mib
from tests.support import builders
from tests.support.stack import RunningStack

WITHIN_S = 240.0
RETRY_DELAY_S = 0.2
PAUSE_S = 0.01
MEMORY_MIB_MAX = 300


class Watcher:
    """One client of a run: connects, takes what it is told, and comes back with its cursor when it is cut off."""

    def __init__(self, session: aiohttp.ClientSession, stack: RunningStack, run_id: str) -> None:
        self._session = session
        self._stack = stack
        self._path = f"/ws/runs/{run_id}/"
        self._cursor: str | None = None
        self.joined = asyncio.Event()
        self.seqs: list[int] = []
        self.connections = 0

    async def watch(self, count: int) -> None:
        """Until *count* events were told."""
        while len(self.seqs) < count:
            try:
                await self._watch_once(count)
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(RETRY_DELAY_S)

    async def _watch_once(self, count: int) -> None:
        query = {} if self._cursor is None else {"cursor": self._cursor}
        websocket = self._stack.addresses.websocket or ""
        async with self._session.ws_connect(f"{websocket}{self._path}", params=query) as ws:
            self.connections += 1
            async for received in ws:
                message = json.loads(received.data)
                assert message["type"] != "reset", message
                self._cursor = message.get("cursor", self._cursor)
                self.joined.set()
                if message["type"] == "trace_event":
                    self.seqs.append(message["event"]["seq"])
                elif message["type"] == "ping":
                    await ws.send_str('{"type":"pong"}')
                if len(self.seqs) == count:
                    return


@pytest.mark.parametrize(
    ("sockets", "events"),
    [(100, 300), pytest.param(1000, 600, marks=pytest.mark.soak)],
)
async def test_every_client_that_resumes_holds_every_event_once_and_in_order(
    stack: RunningStack, sockets: int, events: int
) -> None:
    """One that reads nothing changes nothing for the others."""
    run_id, headers = f"watched-{token_hex(6)}", {"X-API-Key": stack.addresses.api_key}
    connector = aiohttp.TCPConnector(limit=0)
    memory_mib = []
    async with (
        asyncio.timeout(WITHIN_S),
        aiohttp.ClientSession(headers=headers, connector=connector) as session,
        aiohttp.ClientSession(stack.addresses.gateway, headers=headers) as http,
        session.ws_connect(f"{stack.addresses.websocket}/ws/runs/{run_id}/"),
    ):
        watchers = [Watcher(session, stack, run_id) for _ in range(sockets)]
        watching = [asyncio.create_task(each.watch(events)) for each in watchers]
        await asyncio.gather(*(each.joined.wait() for each in watchers))
        for seq in range(1, events + 1):
            async with http.post(f"/api/runs/{run_id}/events", json=builders.event(seq, run_id=run_id)) as answer:
                assert answer.status == 202, await answer.text()
            if seq in (events // 3, 2 * events // 3):
                memory_mib.append(resident_mib(stack.process("fanout").pid))
                killed = stack.kill("fanout")
                await asyncio.to_thread(stack.wait_restarted, "fanout", killed)
            await asyncio.sleep(PAUSE_S)
        await asyncio.gather(*watching)
        memory_mib.append(resident_mib(stack.process("fanout").pid))
    assert all(each.seqs == list(range(1, events + 1)) for each in watchers)
    assert all(each.connections >= 3 for each in watchers), "each was cut off twice"
    assert max(memory_mib) < MEMORY_MIB_MAX, memory_mib
