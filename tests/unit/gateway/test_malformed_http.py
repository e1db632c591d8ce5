"""Bytes that are no HTTP, or HTTP that others might read otherwise: refused, and nothing that follows is served."""

import asyncio
import json
import re

import pytest
import structlog

from gateway.http.connections import UNMATCHED, Deadlines
from schemas.process.telemetry import HTTP_REQUESTS
from tests.support import builders
from tests.unit.gateway.conftest import Served, connected

WAIT_S = 60.0  # far more than anything here takes
TURNS = 10  # of the loop, in which the server reads the first piece
POST = b"POST /api/runs/canary/events HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"

MALFORMED = {
    "length and chunks": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "the same length twice": POST + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
    "a list of lengths": POST + b"Content-Length: 4, 4\r\n\r\nabcd",
    "a length with a sign": POST + b"Content-Length: +4\r\n\r\nabcd",
    "a negative length": POST + b"Content-Length: -4\r\n\r\nabcd",
    "a hexadecimal length": POST + b"Content-Length: 0x4\r\n\r\nabcd",
    "a length beyond 64 bits": POST + b"Content-Length: 99999999999999999999\r\n\r\nabcd",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "no coding": POST + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "a packed coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks not last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunks twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a blank before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a control character before a value": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a chunk of no size": CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
    "a chunk of a negative size": CHUNKED + b"-1\r\nabc\r\n0\r\n\r\n",
    "a chunk with a prefix": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk beyond 64 bits": CHUNKED + b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than it says": CHUNKED + b"3\r\nabcdef\r\n0\r\n\r\n",
    "chunks by line feeds": CHUNKED + b"3\nabc\n0\n\n",
    "a line feed in an extension": CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "a length in the trailer": CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n",
    "a folded line": GET + b"X-A: canary\r\n canary\r\n\r\n",
    "a folded coding": POST + b"Transfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n",
    "NUL in a name": GET + b"X\0A: canary\r\n\r\n",
    "NUL in a value": GET + b"X-A: canary\0\r\n\r\n",
    "a bare carriage return": GET + b"X-A: canary\rX-B: canary\r\n\r\n",
    "a line feed in a value": GET + b"X-A: canary\nX-B: canary\r\n\r\n",
    "line feeds alone": b"GET /livez HTTP/1.1\nHost: x\n\n",
    "a line break in the path": b"GET /canary\r\nX: y HTTP/1.1\r\nHost: x\r\n\r\n",
    "a blank in the path": b"GET /livez canary HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes in the path": b"GET /canary\xff\xed\xa0\x80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes in the query": b"GET /api/runs?canary=\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "a header without a name": GET + b": canary\r\n\r\n",
    "a header without a colon": GET + b"canary\r\n\r\n",
    "a blank in a name": GET + b"X A: canary\r\n\r\n",
    "a long path": b"GET /" + b"canary" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long header": GET + b"X-A: " + b"canary" * 5000 + b"\r\n\r\n",
    "many headers": GET + b"".join(b"X-%d: canary\r\n" % number for number in range(1000)) + b"\r\n",
    "no method": b"C@NARY /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": b"CANARY /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method in small letters": b"get /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path without a slash": b"GET canary HTTP/1.1\r\nHost: x\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
    "an absolute form without sense": b"GET http://[canary/livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /livez\r\n",
    "HTTP/0.9 with an empty line": b"GET /livez\r\n\r\n",
    "HTTP/1.2": b"GET /livez HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/2.0": b"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/01.1": b"GET /livez HTTP/01.1\r\nHost: x\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: canary\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "garbage": b"\0canary\0\r\n\r\n",
}

# Read as it is meant: the answer's status. What follows on the connection is a request of its own.
WELL_FORMED = {
    "the absolute form": (b"GET http://elsewhere/livez HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    "two slashes": (b"GET //elsewhere/livez HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "a tunnel": (b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "no path at all": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "bytes in a header": (GET + b"X-API-Key: \xff\r\n\r\n", 200),
    "a body where none is taken": (GET + b"Content-Length: 36\r\n\r\nGET /metrics HTTP/1.1\r\nHost: xxxx\r\n\r\n", 413),
    "chunks that are refused": (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", 401),
    "an empty line before": (b"\r\n" + GET + b"\r\n", 200),
}


@pytest.fixture
def deadlines() -> Deadlines:
    """Return the rest of a refused body is not waited for."""
    return Deadlines(linger_s=0.05)


async def until_ended(reader: asyncio.StreamReader) -> bytes:
    """Return what was answered until the server ended the connection."""
    answered = b""
    async with asyncio.timeout(WAIT_S):
        try:
            while piece := await reader.read(65536):
                answered += piece
        except ConnectionResetError:  # it did not want the rest
            pass
    return answered


def smuggled(served: Served) -> bytes:
    """Return a request that must not be served."""
    body = json.dumps(builders.event()).encode()
    head = f"POST /api/runs/{builders.RUN}/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {served.keys['all']}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("in_pieces", [False, True], ids=["at once", "in pieces"])
async def test_it_is_a_problem_and_the_last_of_its_connection(served: Served, name: str, in_pieces: bool) -> None:
    """The answer repeats nothing of what was sent, and what came behind it is not served."""
    with structlog.testing.capture_logs() as told:
        async with connected(served) as (reader, writer):
            sent = MALFORMED[name] + smuggled(served)
            middle = sent.find(b"\r\n\r\n") + 4 if in_pieces else len(sent)
            writer.write(sent[:middle])
            for _ in range(TURNS):
                await asyncio.sleep(0)
            writer.write(sent[middle:])
            answered = await until_ended(reader)
    head, _, body = answered.partition(b"\r\n\r\n")
    problem = json.loads(body[: body.index(b"}") + 1])
    assert (problem["status"], problem["code"]) in [(400, "BAD_REQUEST"), (401, "UNAUTHENTICATED")]
    assert b"Content-Type: application/problem+json" in head
    # The path, where it was understood, is the problem's instance.
    assert b"canary" not in re.sub(rb'"instance":"[^"]*"', b"", answered).lower()
    assert not served.publisher.published
    assert not [line for line in told if line["log_level"] == "error"]


@pytest.mark.parametrize("name", WELL_FORMED)
async def test_what_is_read_as_meant_leaves_the_next_request_whole(served: Served, name: str) -> None:
    sent, status = WELL_FORMED[name]
    async with connected(served) as (reader, writer):
        writer.write(sent + smuggled(served) + GET + b"Connection: close\r\n\r\n")
        answered = await until_ended(reader)
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answered)]
    assert statuses == [status, 202, 200]


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "tcp"])
async def test_who_asks_for_another_protocol_is_answered_in_this_one(served: Served, protocol: str) -> None:
    """It is the last answer: aiohttp would wait for bytes of that protocol, and the client for answers."""
    async with connected(served) as (reader, writer):
        writer.write(GET + f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n".encode() + smuggled(served))
        answered = await until_ended(reader)
    assert answered.startswith(b"HTTP/1.1 200 OK")
    assert answered.endswith(b'{"alive":true}')
    assert not served.publisher.published


async def test_what_is_no_request_is_counted(served: Served) -> None:
    async with connected(served) as (reader, writer):
        writer.write(MALFORMED["garbage"])
        await until_ended(reader)
    assert served.telemetry[HTTP_REQUESTS].labels("", UNMATCHED, "400")._value.get() == 1
