"""The management port of a worker, asked as probes, scrapers and shell scripts ask."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from processors.runtime.health import Health
from processors.runtime.management import management_runner
from schemas.process.telemetry import OF_PROCESSORS, Telemetry

WAIT_S = 60.0


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Yield where it is served."""
    runner = management_runner(Health(), Telemetry(OF_PROCESSORS))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def ask(port: int, sent: bytes, *, half_close: bool) -> bytes:
    """Return all that is answered until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        if half_close:
            writer.write_eof()
        async with asyncio.timeout(WAIT_S):
            return await reader.read()
    finally:
        writer.close()


def head(method: str, path: str, *more: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *more, "", ""]).encode()


@pytest.mark.parametrize(("path", "status"), [("/livez", 200), ("/readyz", 503), ("/metrics", 200)])
async def test_get_and_head_are_answered(port: int, path: str, status: int) -> None:
    """A parameter that a scraper adds does not matter."""
    for method in ("GET", "HEAD"):
        for query in ("", "?module=x"):
            answered = await ask(port, head(method, path + query, "Connection: close"), half_close=False)
            answer_head, _, body = answered.partition(b"\r\n\r\n")
            assert answer_head.startswith(b"HTTP/1.1 %d " % status)
            assert bool(body) is (method == "GET")


async def test_half_closed_requests_are_answered(port: int) -> None:
    """`printf 'GET /livez ...' | nc -N` is what scripts do."""
    answered = await ask(port, head("GET", "/livez") * 3, half_close=True)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answered) == [b"200"] * 3
    assert await ask(port, b"", half_close=True) == b""
    assert await ask(port, b"GET /liv", half_close=True) == b""


async def test_a_body_that_is_broken_off_is_no_error_of_ours(port: int, caplog: pytest.LogCaptureFixture) -> None:
    sent = head("GET", "/livez", "Content-Length: 100") + b"{"
    answered = await ask(port, sent, half_close=True)
    assert answered.startswith(b"HTTP/1.1 200 OK")
    assert (await ask(port, head("GET", "/livez"), half_close=True)).startswith(b"HTTP/1.1 200 OK")
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
