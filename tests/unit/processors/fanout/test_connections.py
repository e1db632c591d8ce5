"""Connections to the streams' port: who dawdles is cut, who is too many is not let in, and others notice nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from processors.fanout.connections import HEAD_S
from tests.unit.processors.fanout.conftest import CONNECTIONS_MAX, Streams

RUN = "/ws/runs/run-1/"
WITHIN_S = 5.0


@asynccontextmanager
async def connection(streams: Streams) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    place = urlsplit(streams.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def open_count(streams: Streams, wanted: int) -> None:
    """Wait until so many connections are open."""
    async with asyncio.timeout(WITHIN_S):
        while streams.server.connections.count != wanted:  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the other side ends it."""
    async with asyncio.timeout(WITHIN_S):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize(
    "sent", [b"", b"GET /ws/runs/run-1/ HTTP/1.1\r\nHost: x\r\nX-A"], ids=["nothing", "half a head"]
)
async def test_who_does_not_ask_in_time_is_cut(streams: Streams, sent: bytes) -> None:
    ws = await streams.connect(RUN)
    async with connection(streams) as (reader, writer):
        writer.write(sent)
        await open_count(streams, 2)
        streams.clock.now_s += HEAD_S
        streams.server.connections.check()
        assert not reader.at_eof(), "it has its time"
        streams.clock.now_s += 0.1
        streams.server.connections.check()
        assert await ended(reader) == b""
    await ws.send_str('{"type":"ping"}')
    assert (await ws.receive_json(timeout=WITHIN_S))["type"] == "pong"


async def test_an_answer_ends_its_connection(streams: Streams) -> None:
    async with connection(streams) as (reader, writer):
        writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await ended(reader)).startswith(b"HTTP/1.1 404")
    async with streams.client.post(streams.url + "/ws-tickets", headers=streams.headers()) as answer:
        assert (answer.status, answer.headers["Connection"]) == (200, "close")


async def test_connections_are_bounded(streams: Streams) -> None:
    opened = [
        await asyncio.open_connection(*streams.url.removeprefix("http://").split(":")) for _ in range(CONNECTIONS_MAX)
    ]
    await open_count(streams, CONNECTIONS_MAX)
    async with connection(streams) as (reader, _):
        assert await ended(reader) == b""
    for _, writer in opened:
        writer.close()
        await writer.wait_closed()
    await open_count(streams, 0)
    assert (await streams.refused(RUN, {}))[0] == 401
