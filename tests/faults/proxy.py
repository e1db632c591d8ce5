"""A TCP proxy that does to a connection what networks do: delay, stall, swallow, cut, reset. For tests that block."""

import asyncio
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread
from time import monotonic

CHUNK_BYTES = 64 * 1024
CHUNKS_UNDER_WAY = 256
CONTROL_S = 10.0
_UnderWay = asyncio.Queue[tuple[float, bytes] | None]  # each chunk with the time that it is due; None: no more
LINGER_NOT = struct.pack("ii", 1, 0)  # a close is then a reset


@dataclass(slots=True, kw_only=True)
class Rules:
    """What befalls the bytes of every connection; change a field at any time."""

    refuses: bool = False  # new connections are reset at once
    delay_s: float = 0.0  # of each byte, both ways; later ones are under way meanwhile
    cut_after_bytes: int | None = None  # of the server's answers on a connection; None: never
    cut_at: bytes | None = None  # the connection is reset in place of the answer that holds these bytes
    cuts_left: int = 0  # how often `cut_at` applies; counted down


class Proxy:
    """Forwards a port of its own to an upstream server; runs in a thread, controlled from others."""

    def __init__(self, loop: asyncio.AbstractEventLoop, upstream: tuple[str, int], listening: str) -> None:
        """Forward from the address *listening* to *upstream*; see `proxied`."""
        self.rules = Rules()
        self.port = 0
        self._loop = loop
        self._upstream = upstream
        self._listening = listening
        self._connections: dict[_Connection, asyncio.Task[None]] = {}

    def stall(self) -> None:
        """Let the connections of this moment rest: nothing is read from either side. New ones are free."""
        self._each(lambda connection: connection.flowing.clear())

    def resume(self) -> None:
        """Let stalled connections go on, nothing lost."""
        self._each(lambda connection: connection.flowing.set())

    def half_open(self) -> None:
        """Swallow what the connections of this moment send, and tell nobody: the far side is gone without a word."""
        self._each(_Connection.swallow)

    def reset(self) -> None:
        """Reset the connections of this moment, on both sides."""
        self._each(_Connection.reset)

    def _each(self, act: "Callable[[_Connection], None]") -> None:
        async def apply() -> None:
            for connection in list(self._connections):
                act(connection)

        asyncio.run_coroutine_threadsafe(apply(), self._loop).result(CONTROL_S)

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, self._listening, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Reset everything and stop listening."""
        self._server.close()
        for connection, task in list(self._connections.items()):
            connection.reset()
            task.cancel()
        await asyncio.gather(*self._connections.values(), return_exceptions=True)

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self.rules.refuses:
            _reset(writer)
            return
        try:
            server = await asyncio.open_connection(*self._upstream)
        except OSError:
            _reset(writer)
            return
        if self.rules.refuses:  # by now
            for each in (writer, server[1]):
                _reset(each)
            return
        connection = _Connection(self.rules, (reader, writer), server)
        task = self._connections[connection] = asyncio.create_task(connection.forward())
        task.add_done_callback(lambda _task: self._connections.pop(connection))


class _Connection:
    """One client and its own connection to the server."""

    def __init__(
        self, rules: Rules, client: tuple[StreamReader, StreamWriter], server: tuple[StreamReader, StreamWriter]
    ) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._rules = rules
        self._client, self._server = client, server
        self._swallows = False
        self._answered_bytes = 0
        self._tail = b""

    def swallow(self) -> None:
        self._swallows = True

    def reset(self) -> None:
        for _, writer in (self._client, self._server):
            _reset(writer)

    async def forward(self) -> None:
        """Carry bytes both ways until a side ends."""
        there, back = _UnderWay(CHUNKS_UNDER_WAY), _UnderWay(CHUNKS_UNDER_WAY)
        takes = [
            asyncio.create_task(self._take(self._client[0], there)),
            asyncio.create_task(self._take(self._server[0], back)),
        ]
        delivers = [
            asyncio.create_task(self._deliver(there, self._server[1], answers=False)),
            asyncio.create_task(self._deliver(back, self._client[1], answers=True)),
        ]
        try:
            await asyncio.wait(delivers, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*takes, *delivers):
                task.cancel()
            await asyncio.gather(*takes, *delivers, return_exceptions=True)
            for _, writer in (self._client, self._server):
                writer.close()

    async def _take(self, reader: StreamReader, under_way: _UnderWay) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(CHUNK_BYTES):
                await self.flowing.wait()
                await under_way.put((monotonic() + self._rules.delay_s, chunk))
        await under_way.put(None)

    async def _deliver(self, under_way: _UnderWay, writer: StreamWriter, *, answers: bool) -> None:
        while due := await under_way.get():
            due_s, chunk = due
            await asyncio.sleep(due_s - monotonic())
            if self._swallows:
                continue
            passing = self._until_cut(chunk) if answers else chunk
            writer.write(passing)
            await writer.drain()
            if len(passing) < len(chunk):
                self.reset()
                return

    def _until_cut(self, chunk: bytes) -> bytes:
        rules = self._rules
        if rules.cut_at and rules.cuts_left:
            seen = self._tail + chunk
            if rules.cut_at in seen:
                rules.cuts_left -= 1
                return b""
            self._tail = seen[-len(rules.cut_at) + 1 :]
        self._answered_bytes += len(chunk)
        if rules.cut_after_bytes is not None and self._answered_bytes > rules.cut_after_bytes:
            return chunk[: rules.cut_after_bytes - self._answered_bytes]
        return chunk


def _reset(writer: StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
    writer.transport.abort()


@contextmanager
def proxied(host: str, port: int, *, listening: str = "127.0.0.1") -> Iterator[Proxy]:
    """Run a proxy at *listening*, on a free port, before the server at *host* and *port*."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="proxy")
    thread.start()
    proxy = Proxy(loop, (host, port), listening)
    try:
        asyncio.run_coroutine_threadsafe(proxy.open(), loop).result(CONTROL_S)
        yield proxy
        asyncio.run_coroutine_threadsafe(proxy.close(), loop).result(CONTROL_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
