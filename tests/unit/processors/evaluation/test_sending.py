"""Attempts at a receiver that does everything it should not, over real sockets."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

from processors.evaluation.connector import connector, outward_socket
from processors.evaluation.sending import ANSWER_BYTES_MAX, Answer, Sender, Verdict, retry_after_s
from processors.evaluation.webhook import Message
from schemas.endpoints import Endpoint, new_secret

MESSAGE = Message(id="evt_1", body=b'{"type":"trace_event"}', traceparent=None)
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
    sender = Sender(
        connector(internal_allowed=True), internal_allowed=True, replay=replay, clock=lambda: datetime.now(UTC)
    )
    try:
        for _ in range(count):
            answer = await sender(Endpoint(url=url, secrets=(SECRET,), **endpoint), MESSAGE)
        return answer
    finally:
        await sender.close()


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.TAKEN),
        (204, Verdict.TAKEN),
        (301, Verdict.FAILED),
        (400, Verdict.REFUSED),
        (401, Verdict.REFUSED),
        (404, Verdict.REFUSED),
        (408, Verdict.FAILED),
        (409, Verdict.FAILED),
        (410, Verdict.GONE),
        (422, Verdict.REFUSED),
        (425, Verdict.FAILED),
        (429, Verdict.FAILED),
        (500, Verdict.FAILED),
        (503, Verdict.FAILED),
    ],
)
async def test_the_status_says_what_became_of_it(status: int, verdict: Verdict) -> None:
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
    assert answer.verdict is Verdict.FAILED
    assert canary.requests == []


async def test_a_dripping_answer_ends_in_time() -> None:
    async with serving(Receiver()) as url:
        answer = await attempt(f"{url}/drip", timeout_s=0.3)
    assert answer.verdict is Verdict.FAILED
    assert "0.3 s" in answer.detail


async def test_of_a_huge_answer_little_is_read() -> None:
    receiver = Receiver()
    async with serving(receiver) as url:
        answer = await attempt(f"{url}/huge")
    assert answer.verdict is Verdict.TAKEN
    # What the sockets' buffers took on top is the systems'.
    assert receiver.sent_bytes < 16 * 1024 * 1024
    assert ANSWER_BYTES_MAX == 64 * 1024


async def test_a_packed_answer_is_not_unpacked() -> None:
    async with serving(Receiver()) as url:
        answer = await attempt(f"{url}/bomb")
    assert answer.verdict is Verdict.TAKEN


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
    assert answer.verdict is Verdict.FAILED


async def test_a_url_that_may_not_be_sent_to_is_a_failure_that_says_so() -> None:
    sender = Sender(connector(internal_allowed=False), internal_allowed=False, replay=False, clock=lambda: NOW)
    answer = await sender(Endpoint(url="http://example.org/", secrets=(SECRET,)), MESSAGE)
    await sender.close()
    assert "not https" in answer.detail


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("9" * 400, None),
        ("\u0665", None),
    ],
)
def test_retry_after_is_seconds_or_a_moment(text: str, seconds: float | None) -> None:
    assert retry_after_s(text, now=NOW) == seconds


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
