"""
Many websockets in one process, as cheap as can be: they count the events that they are told, and see their order.

    python -m tests.bench.watchers --url ws://127.0.0.1:8081/ws/runs/x/ --api-key tg_... --sockets 1000 --events 200

Prints a line when all are open, and a line of JSON when each has been told of every event.
"""

import argparse
import asyncio
import json
import re
from time import perf_counter
from urllib.parse import urlsplit

TIMEOUT_S = 120.0
SEQ = re.compile(rb'"seq":([0-9]+),')
KEPT_BYTES = 32  # more than a match is long
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {key}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Tally:
    """What all sockets together have come to."""

    def __init__(self, sockets: int, events: int) -> None:
        self.opening = self.watching = sockets
        self.events = events
        self.opened, self.done = asyncio.Event(), asyncio.Event()
        self.began_s = 0.0  # when the first event came
        self.is_in_order = True


class Watcher(asyncio.Protocol):
    """One socket."""

    def __init__(self, tally: Tally, head: bytes) -> None:
        self._tally = tally
        self._head = head
        self._kept = b""
        self._open = False
        self._last = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._head)  # type: ignore[attr-defined]  # a transport of TCP

    def data_received(self, data: bytes) -> None:
        if not self._open:
            self._open_by(data)
        text = self._kept + data
        found = list(SEQ.finditer(text))
        self._kept = text[found[-1].end() if found else max(0, len(text) - KEPT_BYTES) :][-KEPT_BYTES:]
        for each in found:
            self._take(int(each[1]))

    def _open_by(self, data: bytes) -> None:
        assert data.startswith(b"HTTP/1.1 101"), data
        self._open = True
        self._tally.opening -= 1
        if not self._tally.opening:
            self._tally.opened.set()

    def _take(self, seq: int) -> None:
        tally = self._tally
        tally.began_s = tally.began_s or perf_counter()
        tally.is_in_order &= seq == self._last + 1
        self._last = seq
        if seq == tally.events:
            tally.watching -= 1
            if not tally.watching:
                tally.done.set()


async def main() -> None:
    """Watch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--api-key", default="")
    parser.add_argument("--sockets", type=int, required=True)
    parser.add_argument("--events", type=int, required=True)
    given = parser.parse_args()
    address = urlsplit(given.url)
    head = HANDSHAKE.format(path=address.path, host=address.netloc, key=given.api_key).encode()
    tally = Tally(given.sockets, given.events)
    async with asyncio.timeout(TIMEOUT_S):
        for _ in range(given.sockets):
            await asyncio.get_running_loop().create_connection(
                lambda: Watcher(tally, head), address.hostname, address.port
            )
        await tally.opened.wait()
        print("open", flush=True)
        await tally.done.wait()
    seconds = perf_counter() - tally.began_s
    print(json.dumps({"frames": given.sockets * given.events, "seconds": seconds, "in_order": tally.is_in_order}))


if __name__ == "__main__":
    asyncio.run(main())
