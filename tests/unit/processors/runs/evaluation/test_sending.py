"""Attempts at a receiver that does everything it should not, over real sockets."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

from processors.outbound.sending import (
    ANSWER_BYTES_MAX,
    DETAIL_CHARACTERS_MAX,
    Answer,
    AttemptResult,
    Poster,
)
from processors.runs.evaluation.sending import Sender
from processors.runs.evaluation.webhook import WebhookMessage
from schemas.outbound.connector import connector, outward_socket
from schemas.runs.endpoints import Endpoint, new_secret

MESSAGE = WebhookMessage(id="evt_1", body=b'{"type":"trace_event"}', traceparent=None)
SECRET = new_secret()
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Receiver:
    """Behaves as the path of a request says."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.sent_bytes = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        mode = request.match_info["mode"]
        if mode.isdigit():
            return web.Response(status=int(mode), headers=dict(request.query))
        if mode == "cookie":
            response = web.Response()
            response.set_cookie("session", "1")
            return response
        if mode == "bomb":
            packed = gzip.compress(bytes(64 * 1024 * 1024))
            return web.Response(body=packed, headers={"Content-Encoding": "gzip"})
        stream = web.StreamResponse()
        await stream.prepare(request)
        if mode == "drip":
            for _ in range(1000):
                await stream.write(b".")
                await asyncio.sleep(0.02)
        for _ in range(10_000 if mode == "huge" else 0):
            await stream.write(bytes(10_000))
            self.sent_bytes += 10_000
        return stream


@asynccontextmanager
async def serving(receiver: Receiver) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/{mode}", receiver.answer)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.close()


async def attempt(url: str, *, count: int = 1, replay: bool = False, **endpoint: Any) -> Answer:
    poster = Poster(connector(internal_allowed=True), internal_allowed=True, clock=lambda: datetime.now(UTC))
    sender = Sender(poster, replay=replay, clock=lambda: datetime.now(UTC))
    try:
        for _ in range(count):
            answer = await sender(Endpoint(url=url, secrets=(SECRET,), **endpoint), MESSAGE)
        return answer
    finally:
        await poster.close()


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, AttemptResult.TAKEN),
        (204, AttemptResult.TAKEN),
        (301, AttemptResult.FAILED),
        (400, AttemptResult.REFUSED),
        (401, AttemptResult.REFUSED),
        (404, AttemptResult.REFUSED),
        (408, AttemptResult.FAILED),
        (409, AttemptResult.FAILED),
        (410, AttemptResult.GONE),
        (422, AttemptResult.REFUSED),
        (425, AttemptResult.FAILED),
        (429, AttemptResult.FAILED),
        (500, AttemptResult.FAILED),
        (503, AttemptResult.FAILED),
    ],
)
async def test_the_status_says_what_became_of_it(status: int, verdict: AttemptResult) -> None:
    async with serving(Receiver()) as url:
        answer = await attempt(f"{url}/{status}")
    assert (answer.verdict, answer.detail) == (verdict, f"HTTP {status}")


async def test_a_receiver_can_verify_what_it_gets() -> None:
    receiver = Receiver()
    async with serving(receiver) as url:
        await attempt(f"{url}/200", replay=True, headers={"X-Mine": "yes"})
    [(headers, body)] = receiver.requests
    assert Webhook(SECRET).verify(body, headers) == {"type": "trace_event"}
    assert (headers["webhook-id"], headers["webhook-replay"], headers["x-mine"]) == ("evt_1", "true", "yes")


async def test_a_receiver_may_ask_for_time() -> None:
    async with serving(Receiver()) as url:
        answer = await attempt(f"{url}/429?Retry-After=7")
    assert answer.retry_after_s == 7.0


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_a_failure_and_is_not_followed(status: int) -> None:
    canary, receiver = Receiver(), Receiver()
    async with serving(canary) as inside, serving(receiver) as url:
        answer = await attempt(f"{url}/{status}?Location={inside}/200")
    assert answer.verdict is AttemptResult.FAILED
    assert canary.requests == []


async def test_a_dripping_answer_ends_in_time() -> None:
    async with serving(Receiver()) as url:
        answer = await attempt(f"{url}/drip", timeout_s=0.3)
    assert answer.verdict is AttemptResult.FAILED
    assert "0.3 s" in answer.detail


async def test_of_a_huge_answer_little_is_read() -> None:
    receiver = Receiver()
    async with serving(receiver) as url:
        answer = await attempt(f"{url}/huge")
    assert answer.verdict is AttemptResult.TAKEN
    # What the sockets' buffers took on top is the systems'.
    assert receiver.sent_bytes < 16 * 1024 * 1024
    assert ANSWER_BYTES_MAX == 64 * 1024


async def test_a_packed_answer_is_not_unpacked() -> None:
    async with serving(Receiver()) as url:
        answer = await attempt(f"{url}/bomb")
    assert answer.verdict is AttemptResult.TAKEN


async def test_no_cookie_is_kept() -> None:
    receiver = Receiver()
    async with serving(receiver) as url:
        await attempt(f"{url}/cookie", count=2)
    assert all("cookie" not in headers for headers, _ in receiver.requests)


async def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    canary, receiver = Receiver(), Receiver()
    async with serving(canary) as proxy, serving(receiver) as url:
        monkeypatch.setenv("http_proxy", proxy)
        await attempt(f"{url}/200")
    assert (len(canary.requests), len(receiver.requests)) == (0, 1)


async def test_nobody_there_is_a_failure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        answer = await attempt(f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert answer.verdict is AttemptResult.FAILED


async def test_a_url_that_may_not_be_sent_to_is_a_failure_that_says_so() -> None:
    poster = Poster(connector(internal_allowed=False), internal_allowed=False, clock=lambda: NOW)
    answer = await poster.post("http://example.org/", b"", {}, timeout_s=1.0)
    await poster.close()
    assert "not https" in answer.detail


OK = b"HTTP/1.1 200 OK\r\n"
LATER = b"HTTP/1.1 503 Later\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"
BROKEN_ANSWERS = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.9\r\n",
    "half a status line": b"HTTP/1.1 20",
    "status of four digits": b"HTTP/1.1 2000 OK\r\n" + EMPTY,
    "negative status": b"HTTP/1.1 -200 OK\r\n" + EMPTY,
    "status in other digits": "HTTP/1.1 \u0662\u0660\u0660 OK\r\n".encode() + EMPTY,
    "unknown version": b"HTTP/99999999999999999999.1 200 OK\r\n" + EMPTY,
    "only informational answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n\0",
    "reason that is no UTF-8": b"HTTP/1.1 200 \xff\xfe\r\n" + EMPTY,
    "header without a colon": OK + b"nonsense\r\n" + EMPTY,
    "header without a name": OK + b": nonsense\r\n" + EMPTY,
    "NUL in a header": OK + b"X: a\0b\r\n" + EMPTY,
    "bytes in a header": LATER + b"X: \xff\xfe\r\n" + EMPTY,
    "folded header": OK + b"X: a\r\n b\r\n" + EMPTY,
    "endless header": OK + b"X: " + b"a" * 100_000 + b"\r\n" + EMPTY,
    "too many headers": OK + b"X: a\r\n" * 50_000 + EMPTY,
    "negative length": OK + b"Content-Length: -1\r\n\r\n",
    "length beyond 64 bits": OK + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "less than its length": OK + b"Content-Length: 10\r\n\r\nabc",
    "unknown transfer coding": OK + b"Transfer-Encoding: x, chunked, x\r\n\r\n",
    "chunk size of 400 digits": OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 400 + b"\r\n",
    "chunk size that is no number": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "negative chunk size": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n",
    "broken trailer": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\xff\0\r\n\r\n",
    "unknown packing": OK + b"Content-Encoding: zstd, br, x\r\n" + EMPTY,
    "broken packing": OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    "broken cookies": OK + b'Set-Cookie: \xff=\0;;;=;"\r\nSet-Cookie: ' + b"a=" * 3000 + b"\r\n" + EMPTY,
    "cookie that never expires": OK + b"Set-Cookie: a=b; Expires=Mon, 20-Nov-99999999999 19:12:08 GMT\r\n" + EMPTY,
    "broken links": OK + b"Link: <http://[>; rel=\r\nContent-Type: ;;;charset=\xff\r\n" + EMPTY,
    "broken location": b"HTTP/1.1 302 Found\r\nLocation: http://[::1:99999999/\xff\r\n" + EMPTY,
    "broken keep-alive": OK + b"Keep-Alive: timeout=" + b"9" * 400 + b"\r\nConnection: \xff\r\n" + EMPTY,
    "time to retry in eleven digits": LATER + b"Retry-After: Mon, 20 Nov 99999999999 19:12:08 GMT\r\n" + EMPTY,
    "time to retry in bytes": LATER + b"Retry-After: \xff\xfe\r\n" + EMPTY,
    "number to retry of 4000 digits": LATER + b"Retry-After: " + b"9" * 4000 + b"\r\n" + EMPTY,
    "two times to retry": LATER + b"Retry-After: 1\r\nRetry-After: Mon, 20 Nov 99999999999 19:12:08 GMT\r\n" + EMPTY,
    "a second answer": OK + EMPTY + OK + EMPTY,
}


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize("answer", BROKEN_ANSWERS.values(), ids=BROKEN_ANSWERS.keys())
async def test_whatever_a_receiver_answers_is_the_end_of_an_attempt(answer: bytes) -> None:
    async with answering(answer) as url:
        got = await attempt(url, timeout_s=2.0)
    assert got.verdict in (AttemptResult.TAKEN, AttemptResult.FAILED)
    assert got.detail.isprintable()
    assert len(got.detail) <= DETAIL_CHARACTERS_MAX
    got.detail.encode()  # it is written to the log


class Canary:
    """A listener on loopback that counts who connects."""

    def __init__(self) -> None:
        self.connections = 0

    async def count(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


class Rebinding(aiohttp.abc.AbstractResolver):
    """A name that is public when it is looked up first, and ours from then on."""

    def __init__(self) -> None:
        self.looks = 0

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[Any]:
        self.looks += 1
        address = "93.184.215.14" if self.looks == 1 else "127.0.0.1"
        return [
            {"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": 0},
        ]

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0", "[::ffff:127.0.0.1]"]
)
async def test_no_connection_is_made_to_an_internal_address(host: str) -> None:
    canary = Canary()
    server = await asyncio.start_server(canary.count, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession(connector=connector(internal_allowed=False)) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://{host}:{port}/", timeout=aiohttp.ClientTimeout(total=5))
    assert canary.connections == 0


async def test_a_name_that_resolves_differently_the_second_time_gets_nowhere() -> None:
    canary, resolver = Canary(), Rebinding()
    server = await asyncio.start_server(canary.count, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    guarded = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, socket_factory=outward_socket)
    async with server, aiohttp.ClientSession(connector=guarded) as session:
        await resolver.resolve("rebinding.example")
        with pytest.raises(aiohttp.ClientError, match="internal address"):
            await session.get(f"http://rebinding.example:{port}/", timeout=aiohttp.ClientTimeout(total=5))
    assert resolver.looks == 2
    assert canary.connections == 0


async def test_the_canary_sees_who_is_let_through() -> None:
    """The tests above can fail."""
    canary = Canary()
    server = await asyncio.start_server(canary.count, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession(connector=connector(internal_allowed=True)) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://127.0.0.1:{port}/", timeout=aiohttp.ClientTimeout(total=5))
    assert canary.connections
