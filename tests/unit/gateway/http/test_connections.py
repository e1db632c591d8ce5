"""Slow clients and too many of them: they are cut off, and others are served meanwhile."""

import asyncio
import socket
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from gateway.http.connections import Connections, Cut, Deadlines, files_within, raise_open_file_limit
from schemas.process.telemetry import HTTP_CONNECTIONS, HTTP_CONNECTIONS_CUT, OF_GATEWAY, Telemetry
from tests.support import builders
from tests.unit.gateway.conftest import Served, connected

HALF_OPEN = 500
WAIT_S = 60.0  # far more than anything here takes
HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def deadlines() -> Deadlines:
    """Short ones."""
    return Deadlines(head_s=0.4, body_s=0.4, unread_s=0.4, idle_s=600)


async def until_cut(reader: asyncio.StreamReader) -> bytes:
    """Return what came until the server ended the connection."""
    async with asyncio.timeout(WAIT_S):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


def cut(served: Served, reason: Cut) -> float:
    return served.telemetry[HTTP_CONNECTIONS_CUT].labels(reason.value)._value.get()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_half_heads_are_cut_off_and_others_served(served: Served) -> None:
    """Each ends, its file is free again, and meanwhile events are taken."""
    assert raise_open_file_limit(3 * HALF_OPEN) == 3 * HALF_OPEN  # both ends are in this process
    async with served.client.get("/livez") as answer:
        assert answer.status == 200
    files = open_files()
    opened = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(HALF_OPEN)]
    for _, writer in opened:
        writer.write(HEAD)
    ends = asyncio.gather(*(until_cut(reader) for reader, _ in opened))
    for number in count():
        if number and ends.done():
            break
        run_id = f"run-{number}"
        event, url = builders.event(run_id=run_id), f"/api/runs/{run_id}/events"
        async with served.client.post(url, json=event, headers=served.headers()) as answer:
            assert answer.status == 202
    assert set(await ends) == {b""}
    assert cut(served, Cut.HEAD) == HALF_OPEN
    for _, writer in opened:
        writer.close()
    await asyncio.sleep(0)  # the loop closes their files
    assert served.telemetry[HTTP_CONNECTIONS]._value.get() == 1
    assert open_files() <= files + 1  # all but the one that sends events


async def test_a_later_head_has_the_same_time(served: Served) -> None:
    """An idle connection stays; one that begins a head and does not end it is cut."""
    async with connected(served) as (idle, idle_writer), connected(served) as (reader, writer):
        for each, to in ((idle, idle_writer), (reader, writer)):
            to.write(HEAD + b"\r\n")
            assert b"200 OK" in await each.readuntil(b"}")
        writer.write(HEAD)
        assert await until_cut(reader) == b""
        idle_writer.write(HEAD + b"\r\n")
        assert b"200 OK" in await idle.readuntil(b"}")


async def test_a_connection_that_sends_nothing_is_cut(served: Served) -> None:
    async with connected(served) as (reader, _):
        assert await until_cut(reader) == b""
    assert cut(served, Cut.HEAD) == 1


async def test_a_body_that_drips_is_408(served: Served) -> None:
    async with connected(served) as (reader, writer):
        head = f"POST /api/runs/{builders.RUN}/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {served.keys['all']}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n".encode())
        status = asyncio.ensure_future(reader.readline())
        async with asyncio.timeout(WAIT_S):
            while not status.done():
                writer.write(b" ")
                await asyncio.wait([status], timeout=0.02)
        assert b" 408 " in await status
        assert b'"REQUEST_TIMEOUT"' in await reader.readuntil(b"}")


async def test_an_answer_that_nobody_reads_is_given_up(served: Served) -> None:
    """Neither its bytes nor its connection are kept for a client that has stopped reading."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", served.port))
        asks = asyncio.ensure_future(loop.sock_sendall(client, b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 500))
        async with asyncio.timeout(WAIT_S):
            while not cut(served, Cut.UNREAD):
                async with served.client.get("/livez") as answer:
                    assert answer.status == 200
        asks.cancel()


@dataclass
class Buffer:
    """A transport, as far as its unsent bytes go."""

    unsent_bytes: int = 0

    def get_write_buffer_size(self) -> int:
        """Return what the test says."""
        return self.unsent_bytes


async def test_a_slow_reader_is_no_dead_one() -> None:
    """What counts is the time without a byte taken, however long the whole takes."""
    telemetry = Telemetry(OF_GATEWAY)
    server = Connections(None, deadlines=Deadlines(unread_s=10), connections_max=1, telemetry=telemetry)
    connection, buffer = server(), Buffer()
    for now_s in range(0, 1000, 5):
        buffer.unsent_bytes = 100_000 - now_s
        assert connection.overdue(buffer, now_s) is None
    told = [connection.overdue(buffer, now_s) for now_s in (1000, 1005, 1006)]
    assert told == [None, None, Cut.UNREAD]


@pytest.mark.parametrize("connections_max", [3])
async def test_beyond_the_bound_a_connection_is_closed_at_once(served: Served) -> None:
    async with connected(served) as first, connected(served) as second, connected(served) as third:
        for reader, writer in (first, second, third):
            writer.write(HEAD + b"\r\n")
            assert b"200 OK" in await reader.readuntil(b"}")
        async with connected(served) as (reader, _):
            assert await until_cut(reader) == b""
        assert cut(served, Cut.NO_ROOM) == 1
        third[1].write(HEAD + b"Connection: close\r\n\r\n")
        assert b"200 OK" in await until_cut(third[0])
        async with served.client.get("/livez") as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("needed", "soft", "hard", "files"),
    [(2_000, 1_024, 4_096, 2_000), (9_000, 1_024, 4_096, 4_096), (9_000, 1_024, -1, 9_000), (10, 1_024, 2, 1_024),
     (9_000, -1, -1, -1)],
)  # fmt: skip
def test_files_are_opened_as_far_as_the_system_lets(needed: int, soft: int, hard: int, files: int) -> None:
    assert files_within(needed, soft=soft, hard=hard) == files
