"""Batches over real sockets: what a receiver is sent, and what its answers mean."""

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

from processors.outbound.sending import Poster
from processors.sinks.contract import (
    BatchRefused,
    BatchTooLarge,
    Misconfigured,
    Refused,
    SinkBatch,
    Transient,
    TryAgain,
)
from processors.sinks.kinds.http import ANSWER_BYTES_MAX, HttpWriter
from schemas.outbound.connector import connector, outward_socket
from schemas.runs.endpoints import new_secret
from schemas.sinks.sinks_file import HttpSink
from tests.support.builders import USER_TOPIC
from tests.support.sinks import TOPIC_ID, batch

TOKEN = f"{USER_TOPIC}@{TOPIC_ID}/0/0-2"


class Receiver:
    """Answers each request as it is told."""

    def __init__(self, status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.status, self.body, self.headers = status, body, headers or {}
        self.requests: list[tuple[Mapping[str, str], bytes, str]] = []  # headers, body as it came, path and query

    async def answer(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((headers, await request.read(), request.raw_path))
        return web.Response(status=self.status, body=self.body, headers=dict(self.headers))


class Silent(Receiver):
    """Never answers."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError


@asynccontextmanager
async def serving(receiver: Receiver) -> AsyncIterator[str]:
    app = web.Application(client_max_size=2 * 1024 * 1024)
    app.router.add_post("/{path:.*}", receiver.answer)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server(auto_decompress=False)
    try:
        yield f"http://127.0.0.1:{server.port}/in"
    finally:
        await server.close()


async def write(
    url: str,
    *batches: SinkBatch,
    internal_allowed: bool = True,
    own_connector: aiohttp.TCPConnector | None = None,
    **settings: Any,
) -> Sequence[Refused | TryAgain]:
    """Write *batches*, or one of three records; return the last answer."""
    poster = Poster(
        own_connector or connector(internal_allowed=internal_allowed),
        internal_allowed=internal_allowed,
        clock=lambda: datetime.now(UTC),
    )
    sink = HttpSink(url=url, **settings)
    writer = HttpWriter(lambda: sink, poster=poster, clock=lambda: datetime.now(UTC))
    await writer.open({})
    try:
        answered: Sequence[Refused | TryAgain] = ()
        for each in batches or [batch(0, 1, 2)]:
            answered = await writer.write(each)
        return answered
    finally:
        await writer.close()


async def test_a_batch_is_an_array_with_its_token() -> None:
    receiver = Receiver()
    async with serving(receiver) as url:
        assert list(await write(url, headers={"Authorization": "Bearer x"})) == []
    [(headers, body, _)] = receiver.requests
    assert json.loads(body) == [record.event for record in batch(0, 1, 2).records]
    assert (headers["idempotency-key"], headers["webhook-id"]) == (TOKEN, TOKEN)
    assert (headers["content-type"], headers["authorization"]) == ("application/json", "Bearer x")
    assert not {"webhook-signature", "webhook-replay", "content-encoding", "cookie"} & set(headers)


async def test_lines_are_one_a_record() -> None:
    receiver = Receiver()
    async with serving(receiver) as url:
        await write(url, ndjson=True)
    [(headers, body, _)] = receiver.requests
    assert body.splitlines() == [record.json for record in batch(0, 1, 2).records]
    assert headers["content-type"] == "application/x-ndjson"


@pytest.mark.parametrize("zipped", [False, True])
async def test_a_receiver_can_verify_what_it_gets_by_each_secret(zipped: bool) -> None:
    receiver, secrets = Receiver(), (new_secret(), new_secret())
    async with serving(receiver) as url:
        await write(url, secrets=secrets, gzip=zipped)
    [(headers, body, _)] = receiver.requests
    assert headers.get("content-encoding") == ("gzip" if zipped else None)
    plain = gzip.decompress(body) if zipped else body
    for secret in secrets:
        assert len(Webhook(secret).verify(plain, dict(headers))) == 3


async def test_an_address_may_have_the_token_in_it() -> None:
    """As ClickHouse takes it: insert_deduplication_token."""
    receiver = Receiver()
    async with serving(receiver) as url:
        await write(f"{url}?insert_deduplication_token={{token}}&query=INSERT%20INTO%20t")
    [(_, _, path)] = receiver.requests
    assert parse_qs(urlsplit(path).query) == {"insert_deduplication_token": [TOKEN], "query": ["INSERT INTO t"]}


async def test_a_replay_says_so() -> None:
    receiver = Receiver()
    async with serving(receiver) as url:
        await write(url, batch(0, replay_id="r1"))
    assert receiver.requests[0][0]["webhook-replay"] == "true"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, None) for status in (200, 201, 202, 204)),
        *((status, BatchRefused) for status in (400, 422)),
        (413, BatchTooLarge),
        *((status, Transient) for status in (408, 409, 425, 429, 500, 501, 502, 503, 504, 529)),
        *((status, Misconfigured) for status in (301, 302, 307, 401, 402, 403, 404, 405, 406, 407, 410, 411, 415, 451)),
    ],
)
async def test_the_status_says_what_became_of_it(status: int, error: type[Exception] | None) -> None:
    """Report: a wrong password at the sink, and offsets were committed all the same."""
    async with serving(Receiver(status)) as url:
        if error is None:
            await write(url)
            return
        with pytest.raises(error) as raised:
            await write(url)
    assert type(raised.value) is error
    assert str(raised.value).startswith(f"HTTP {status}")


async def test_a_receiver_that_is_busy_may_say_for_how_long() -> None:
    async with serving(Receiver(503, headers={"Retry-After": "7"})) as url:
        with pytest.raises(Transient) as raised:
            await write(url)
    assert raised.value.retry_after_s == 7.0


@pytest.mark.parametrize(
    ("body", "answered"),
    [
        (b"", []),
        (b"OK", []),
        (b"[]", []),
        (b'{"status": "ok"}', []),
        (b'{"refused": [], "retry": []}', []),
        (b'{"refused": [{"index": 1, "reason": "no total"}]}', [Refused(1, "no total")]),
        (b' {"refused": [{"index": 0}], "retry": [2], "took": 3}', [Refused(0, "refused"), TryAgain(2)]),
    ],
)
async def test_items_that_failed_within_a_200_are_read(body: bytes, answered: list[Refused | TryAgain]) -> None:
    """Report: items with an error inside a 200 were dropped, for years."""
    async with serving(Receiver(200, body)) as url:
        assert list(await write(url)) == answered


@pytest.mark.parametrize(
    "body",
    [
        b'{"refused": [1',
        b'{"refused": [1]}',
        b'{"refused": {"index": 1}}',
        b'{"refused": [{"index": -1, "reason": "x"}]}',
        b'{"refused": [{"index": 1.5}]}',
        b'{"refused": [{"reason": "x"}]}',
        b'{"retry": ["0"]}',
        b'{"retry": [true]}',
        b'{"retry": null}',
        b'{"a": ' + b"[" * 100_000,
        b'{"a": "' + b"x" * ANSWER_BYTES_MAX + b'"}',
        b'{"\xff": 1}',
        b'{"refused": [{"index": 0, "reason": "\xff\xfe"}]}',
    ],
)
async def test_an_answer_that_cannot_be_read_is_no_yes(body: bytes) -> None:
    async with serving(Receiver(200, body)) as url:
        with pytest.raises(Transient, match="its answer"):
            await write(url)


async def test_a_long_body_that_says_nothing_of_records_is_a_yes() -> None:
    async with serving(Receiver(200, b"<html>" + b"x" * (2 * ANSWER_BYTES_MAX))) as url:
        assert list(await write(url)) == []


async def test_what_a_receiver_says_is_made_printable() -> None:
    async with serving(Receiver(400, b"bad\r\n\x1b[31mline")) as url:
        with pytest.raises(BatchRefused) as raised:
            await write(url)
    assert str(raised.value) == "HTTP 400: bad\\u000d\\u000a\\u001b[31mline"


async def test_a_receiver_that_never_answers_is_away() -> None:
    async with serving(Silent()) as url:
        with pytest.raises(Transient, match=r"no whole answer within 0.05 s"):
            await write(url, timeout_s=0.05)


async def test_a_receiver_that_is_not_there_is_away() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(Transient):
        await write(f"http://127.0.0.1:{port}/")


class Resolver(AbstractResolver):
    """Resolves each name to one address, or none."""

    def __init__(self, address: str | None) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if self._address is None:
            raise OSError(None, "no such name")
        return [
            ResolveResult(
                hostname=host, host=self._address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
            )
        ]

    async def close(self) -> None:
        """Do nothing."""


async def test_an_unknown_name_is_a_wrong_setting() -> None:
    nowhere = aiohttp.TCPConnector(resolver=Resolver(None))
    with pytest.raises(Misconfigured, match="no such name"):
        await write("http://shelf.example/", own_connector=nowhere)


async def test_a_name_of_an_internal_address_is_sent_nothing() -> None:
    receiver = Receiver()
    async with serving(receiver):
        inward = aiohttp.TCPConnector(resolver=Resolver("127.0.0.1"), socket_factory=outward_socket)
        with pytest.raises(Misconfigured, match="internal address"):
            await write("https://shelf.example/", own_connector=inward, internal_allowed=False)
    assert receiver.requests == []


@pytest.mark.parametrize(
    "url", ["http://shelf.example/", "https://shelf.example:99/", "https://user:pw@shelf.example/"]
)
async def test_an_address_that_may_not_be_sent_to_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(Misconfigured, match="its URL cannot be sent to"):
        await write(url, internal_allowed=False)


async def test_a_redirect_is_not_followed() -> None:
    receiver = Receiver()
    async with serving(receiver) as target, serving(Receiver(307, headers={"Location": target})) as url:
        with pytest.raises(Misconfigured, match="HTTP 307"):
            await write(url)
    assert receiver.requests == []
