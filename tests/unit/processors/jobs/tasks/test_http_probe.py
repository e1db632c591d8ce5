"""The task `http_probe` against real servers on this machine."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from processors.jobs.context import BadInput, TaskContext
from processors.jobs.tasks import http_probe
from processors.jobs.tasks.http_probe import BODY_BYTES_MAX, ProbeFailed
from schemas.jobs.builtin import ProbeParameters
from tests.support.certificates import Authority

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def context() -> TaskContext:
    return TaskContext(
        job_id="00000000-0000-4000-8000-000000000001",
        attempt_id="00000000-0000-4000-8000-000000000002",
        attempt=1,
        failed_attempts=0,
        type="http_probe",
        tenant="demo",
        user_id=None,
        folder=Path("/nowhere"),
        deadline_s=monotonic() + 60,
        dsn="",
        report=lambda _fraction, _message: None,
        check=lambda: None,
    )


@asynccontextmanager
async def served(serve: Serve, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Yield the port of a server that gives each connection to *serve*; each has ended when this does."""
    connections: set[asyncio.Task[None]] = set()

    async def serve_whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        connections.add(task)
        with suppress(OSError):
            await serve(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve_whole, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*connections)


def answering(head: str, body: bytes = b"") -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)

    return serve


async def probe(monkeypatch: pytest.MonkeyPatch, targets: str, **parameters: Any) -> dict[str, Any]:
    monkeypatch.setenv("TIDEGATE_PROBE_TARGETS", targets)
    return await http_probe.run(context(), ProbeParameters(target="api", **parameters))


async def test_an_answer_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", b"hello")) as port:
        found = await probe(monkeypatch, f"other=http://x.invalid, api=http://127.0.0.1:{port}/", expect_status=200)
    assert (found["status"], found["ok"], found["bytes"], found["is_whole"]) == (200, True, 5, True)
    assert 0 < found["connect_ms"] <= found["duration_ms"]
    assert found["certificate_expires_at"] is None


async def test_a_redirect_is_an_answer_and_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(answering("HTTP/1.1 302 Found\r\nLocation: http://x.invalid/\r\nContent-Length: 0\r\n")) as port:
        found = await probe(monkeypatch, f"api=http://127.0.0.1:{port}")
    assert (found["status"], found["ok"]) == (302, True)


async def test_an_error_is_a_result_unless_another_status_was_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(answering("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n")) as port:
        target = f"api=http://127.0.0.1:{port}"
        assert (await probe(monkeypatch, target))["ok"] is False
        assert (await probe(monkeypatch, target, expect_status=503))["ok"] is True
        with pytest.raises(ProbeFailed, match="api: status 503, expected 200"):
            await probe(monkeypatch, target, expect_status=200)


async def test_no_more_than_a_mebibyte_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    body = bytes(3 * BODY_BYTES_MAX)
    async with served(answering(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n", body)) as port:
        found = await probe(monkeypatch, f"api=http://127.0.0.1:{port}")
    assert (found["bytes"], found["is_whole"]) == (BODY_BYTES_MAX, False)


@pytest.mark.parametrize("head", ["", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"])
async def test_a_server_that_sends_a_byte_at_a_time_is_left_in_time(monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head.encode() or b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with served(drip) as port:
        began_s = monotonic()
        with pytest.raises(ProbeFailed, match=r"api: no whole answer within 0\.3 s"):
            await probe(monkeypatch, f"api=http://127.0.0.1:{port}", timeout_s=0.3)
    assert monotonic() - began_s < 2


async def test_the_end_of_a_certificate_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    pair = authority.sign("server", host="127.0.0.1")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pair.certificate, pair.key)
    async with served(answering("HTTP/1.1 204 None\r\n"), tls=tls) as port:
        target = f"api=https://127.0.0.1:{port}"
        with pytest.raises(ProbeFailed, match="certificate verify failed"):
            await probe(monkeypatch, target)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        found = await probe(monkeypatch, target)
    assert found["status"] == 204
    assert found["certificate_expires_at"] > datetime.now(UTC)


async def test_a_closed_port_fails_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(answering("")) as port:
        pass
    with pytest.raises(ProbeFailed, match="api: ClientConnectorError"):
        await probe(monkeypatch, f"api=http://127.0.0.1:{port}")


@pytest.mark.parametrize(("targets", "known"), [("", "none"), ("web=http://x, shop=http://y", "shop, web")])
async def test_a_target_that_is_not_configured_is_bad_input(
    monkeypatch: pytest.MonkeyPatch, targets: str, known: str
) -> None:
    with pytest.raises(BadInput, match=rf"no target is called 'api'; TIDEGATE_PROBE_TARGETS .* has: {known}$"):
        await probe(monkeypatch, targets)


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "127.0.0.1", "http://"])
async def test_an_address_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(ProbeFailed, match="the address of api must be an http or https URL"):
        await probe(monkeypatch, f"api={url}")
