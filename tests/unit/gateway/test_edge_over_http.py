"""Paths, query parameters, methods and connections, as they come from strangers and from tools."""

import asyncio
import json
import logging
import re
import socket
import struct
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from yarl import URL

from gateway.app import ROUTES
from gateway.http.connections import IDLE_GRACE_S, UNMATCHED, Deadlines
from gateway.http.edge import CLIENT_GONE
from gateway.http.parameters import FAULTS_MAX
from gateway.http.routes import Route
from gateway.registry.routes import ROUTES as REGISTRY
from schemas.access.credentials import Right
from schemas.process.telemetry import HTTP_REQUESTS
from tests.support import builders
from tests.unit.gateway.conftest import Served, connected, event_view, run_view

WAIT_S = 60.0  # far more than anything here takes
EVENTS = f"/api/runs/{builders.RUN}/events"
READS = [route for route in ROUTES if route.right is Right.READ and route.method == "GET"]
IGNORE_QUERY = {route.path for route in REGISTRY} | {
    *("/livez", "/readyz", "/metrics"),
    *("/v1/batch", "/v1/{call_type}"),
}


@pytest.fixture
def deadlines() -> Deadlines:
    """Return the rest of a refused body is not waited for."""
    return Deadlines(linger_s=0.05)


def name(route: Route) -> str:
    return f"{route.method} {route.path}"


def url(route: Route) -> str:
    path = route.path.replace("{run_id}", builders.RUN).replace("{subject}", "run.events-tidegate.runs.RunEvent")
    path = path.replace("{topic}/{partition}/{offset}", "run.events/0/0")
    return path.replace("{version}", "1").replace("{id}", "1")


def head_of(served: Served, path: str = EVENTS, *, method: str = "POST", length: int | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"X-API-Key: {served.keys['all']}"]
    lines += ["Content-Type: application/json"]
    lines += [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


def post_of(served: Served, seq: int = 1) -> bytes:
    body = json.dumps(builders.event(seq)).encode()
    return head_of(served, length=len(body)) + body


async def answers(reader: asyncio.StreamReader) -> bytes:
    """Return all that the server sends until it closes."""
    async with asyncio.timeout(WAIT_S):
        return await reader.read()


def statuses(answered: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answered)]


def counted(served: Served, method: str, route: str, status: int) -> float:
    return float(served.telemetry[HTTP_REQUESTS].labels(method, route, str(status))._value.get())


# --- paths


async def ask_raw(served: Served, path: str, method: str = "GET") -> tuple[int, Any, str]:
    """Return the status, the document and the raw body of the answer to exactly this request target."""
    async with connected(served) as (reader, writer):
        head = head_of(served, path, method=method).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        writer.write(head)
        answered = await answers(reader)
    _, _, body = answered.partition(b"\r\n\r\n")
    return statuses(answered)[0], json.loads(body) if body else None, body.decode()


async def test_an_encoded_slash_is_part_of_the_name(served: Served) -> None:
    """`X%2Fevents` is one name, which no run can have; it does not lead to the events of X."""
    served.store.stored_runs = [run_view("X")]
    served.store.stored_events = {"X": [event_view(1)]}
    for path in ("/api/runs/X%2Fevents", "/api/runs/X%2fevents/", "/api/runs/X%2F..%2FX"):
        status, problem, _ = await ask_raw(served, path)
        assert (status, problem["errors"][0]["detail"]) == (
            422,
            "the run_id in the path is not [A-Za-z0-9._:-]{1,128}",
        )
    assert (await ask_raw(served, "/api/runs/X/events"))[0] == 200


HOSTILE_PATHS = {
    "a parent, encoded": ("/api/runs/..%2f", 422),
    "a parent, with dots encoded": ("/api/runs/%2e%2e", 422),
    "a parent as it is": ("/api/runs/..", 422),
    "a parent in the middle": (f"/api/runs/../runs/{builders.RUN}", 404),
    "the folder itself": ("/./api/runs", 404),
    "NUL": ("/api/runs/a%00b", 422),
    "no hexadecimal digits": ("/api/runs/a%zz", 422),
    "half a code": ("/api/runs/a%2", 422),
    "a per cent sign": ("/api/runs/a%25b", 422),
    "no UTF-8": ("/api/runs/%ff%fe", 422),
    "a surrogate": ("/api/runs/%ed%a0%80", 422),
    "encoded twice": ("/api/runs/X%252Fevents", 422),
    "encoded dots, twice": ("/api/runs/%252e%252e", 422),
    "a matrix parameter": (f"/api/runs/{builders.RUN};v=1", 422),
    "a matrix parameter of a fixed part": ("/api;v=1/runs", 404),
    "an empty segment": (f"/api/runs//{builders.RUN}", 404),
    "an empty segment before": (f"//api/runs/{builders.RUN}", 404),
    "two slashes at the end": (f"/api/runs/{builders.RUN}//", 404),
    "an encoded slash as a segment": ("/api/runs/%2F", 422),
    "an encoded slash as a fixed part": (f"/api%2Fruns/{builders.RUN}", 404),
    "a line break": ("/api/runs/a%0d%0aSet-Cookie:%20b", 422),
    "a backslash": ("/api/runs/..%5c..%5c", 422),
    "a blank": ("/api/runs/a%20b", 422),
    "a long name": ("/api/runs/" + "a" * 5000, 422),
    "a long path": ("/a" * 2500, 404),
    "codes alone": ("/" + "%2F" * 2000, 404),
    "slashes alone": ("/" * 2000, 404),
    "a wal_id of two slashes": ("/api/wal/run.events%2F0/0/0", 404),
    "a wal_id in one segment": ("/api/wal/run.events%2F0%2F0", 404),
    "a wal_id with a sign": ("/api/wal/run.events/%2B0/0", 404),
    "another number's digits": ("/api/wal/run.events/%D9%A0/0", 404),
    "a subject with a slash": ("/subjects/a%2Fversions/versions/1", 404),
    "a version with a slash": ("/subjects/a/versions/1%2Fschema", 404),
    "a subject of a control character": ("/subjects/%00%1b/versions", 404),
    "an id with a slash": ("/schemas/ids/1%2Fversions", 404),
    "the absolute form": (f"http://elsewhere/api/runs/{builders.RUN}%2Fevents", 422),
    "the absolute form without a path": ("http://elsewhere", 404),
}


@pytest.mark.parametrize("case", HOSTILE_PATHS)
async def test_a_hostile_path_is_a_problem_and_reaches_nothing(served: Served, case: str) -> None:
    path, expected = HOSTILE_PATHS[case]
    with structlog.testing.capture_logs() as logged:
        status, document, text = await ask_raw(served, path)
    assert status == expected
    assert document.get("code") in ("NOT_FOUND", "TOON_VALIDATION_ERROR", "VALIDATION_ERROR", None)
    assert "code" in document or "error_code" in document  # the registry has a form of its own
    assert served.store.looks == []
    assert text.isascii() or "�" in text
    assert not [line for line in logged if line["log_level"] == "error"]


async def test_codes_of_letters_are_those_letters(served: Served) -> None:
    """RFC 3986, 6.2.2.2: `%72` and `r` are the same, in the fixed parts and in names."""
    served.store.stored_runs = [run_view()]
    status, run, _ = await ask_raw(served, f"/%61pi/%72uns/%72{builders.RUN[1:]}")
    assert (status, run["run_id"]) == (200, builders.RUN)


async def test_a_problem_names_its_path_as_it_was_sent(served: Served) -> None:
    """`instance` is a reference to a resource, not a text."""
    _, problem, _ = await ask_raw(served, "/api/runs/a%20b%2F%ff")
    assert problem["instance"] == "/api/runs/a%20b%2F%ff"


# --- query parameters


@pytest.mark.parametrize("route", ROUTES, ids=name)
async def test_an_unknown_parameter_is_refused_by_every_route_that_has_no_callers_of_other_makers(
    served: Served, route: Route
) -> None:
    """Probes, metrics, the registry and Segment's calls ignore it: clients of other makers add their own."""
    body = {"schema": "1"} if route.path in IGNORE_QUERY else builders.event()
    async with served.client.request(
        route.method, f"{url(route)}?agent_id=1", json=body if route.body else None, headers=served.headers()
    ) as answer:
        assert (answer.status == 422) is (route.path not in IGNORE_QUERY)
        if answer.status == 422:
            problem = await answer.json()
            assert (answer.content_type, problem["code"]) == ("application/problem+json", "VALIDATION_ERROR")
            (fault,) = problem["errors"]
            assert (fault["parameter"], fault["pointer"]) == ("agent_id", "")
            assert all(parameter.name in fault["detail"] for parameter in route.query)
    assert served.publisher.published == []


async def test_the_parameters_that_exist_are_named(served: Served) -> None:
    async with served.client.get("/api/runs?agent_id=a&limit=1&offset=2", headers=served.headers()) as answer:
        problem = await answer.json()
    known = "this path has agent, status, from, to, limit, cursor"
    assert [fault["detail"] for fault in problem["errors"]] == [
        f"unknown query parameter 'agent_id'; {known}",
        f"unknown query parameter 'offset'; {known}",
    ]
    assert served.store.looks == []


async def test_a_parameter_given_twice_is_refused(served: Served) -> None:
    """Else the second would be ignored."""
    async with served.client.get("/api/runs?agent=a&agent=b", headers=served.headers()) as answer:
        problem = await answer.json()
    assert (answer.status, problem["errors"][0]["parameter"]) == (422, "agent")
    assert problem["detail"] == "query parameter 'agent' is given 2 times; give it once"


@pytest.mark.parametrize("route", [route for route in ROUTES if route.right is not None], ids=name)
async def test_who_has_no_key_is_not_told_of_parameters(served: Served, route: Route) -> None:
    for headers, status in (({}, 401), ({"X-API-Key": "tg_a_b"}, 401)):
        async with served.client.request(route.method, f"{url(route)}?x=1", headers=headers) as answer:
            assert answer.status == status


@pytest.mark.parametrize("route", [route for route in READS if "{run_id}" in route.path], ids=name)
async def test_a_parameter_tells_nothing_of_anothers_run(served: Served, route: Route) -> None:
    """The answer is the same, whether the run exists or not."""
    served.store.stored_runs = [run_view()]
    told = []
    for run_id in (builders.RUN, "run-of-nobody"):
        path = route.path.replace("{run_id}", run_id)
        async with served.client.get(f"{path}?x=1", headers=served.headers("stranger")) as answer:
            problem = await answer.json()
            told.append((answer.status, problem["detail"]))
    assert told[0] == told[1]
    assert told[0][0] == 422


@pytest.mark.parametrize(
    "query",
    ["=", "&", "?", "%00=1", "%ff=1", "%ed%a0%80", "a" * 7000, "&".join(f"p{number}" for number in range(1500)),
     "limit;status=open", "Limit=1", "limit%20=1", "%6cimit=1&limit=2", "x%0d%0aSet-Cookie:a=1"],
)  # fmt: skip
async def test_a_hostile_query_is_refused_in_a_bounded_answer(served: Served, query: str) -> None:
    async with served.client.get(URL(f"/api/runs?{query}", encoded=True), headers=served.headers()) as answer:
        text = await answer.text()
    if query == "&":
        assert answer.status == 200  # names no parameter at all
        return
    assert (answer.status, answer.content_type) == (422, "application/problem+json")
    assert len(json.loads(text)["errors"]) <= FAULTS_MAX
    assert len(text) < 10_000


async def test_the_names_of_parameters_may_be_encoded(served: Served) -> None:
    async with served.client.get(URL("/api/runs?%6cimit=7", encoded=True), headers=served.headers()) as answer:
        assert answer.status == 200


async def test_the_next_page_is_linked_relative_to_this_one(served: Served) -> None:
    """Behind a proxy that serves us under a prefix the link would lead elsewhere otherwise."""
    served.store.stored_runs = [run_view("run-1"), run_view("run-2")]
    async with served.client.get("/api/runs?limit=1&status=open", headers=served.headers()) as answer:
        page = await answer.json()
        assert answer.headers["Link"] == f'<?limit=1&status=open&cursor={page["next_cursor"]}>; rel="next"'


# --- HEAD


@pytest.mark.parametrize("route", [route for route in ROUTES if route.method == "GET"], ids=name)
async def test_head_is_get_without_the_body(served: Served, route: Route) -> None:
    served.store.stored_runs = [run_view()]
    async with served.client.get(url(route), headers=served.headers()) as whole:
        body = await whole.read()
    async with served.client.head(url(route), headers=served.headers()) as answer:
        assert answer.status == whole.status
        assert answer.headers["Content-Type"] == whole.headers["Content-Type"]
        if route.path != "/metrics":
            assert answer.headers["Content-Length"] == str(len(body))
        assert await answer.read() == b""


async def test_after_head_the_connection_goes_on(served: Served) -> None:
    """No byte of a body follows the head, for problems as well."""
    async with connected(served) as (reader, writer):
        writer.write(head_of(served, "/livez", method="HEAD") + head_of(served, "/nowhere", method="HEAD"))
        writer.write(head_of(served, "/livez", method="GET"))
        writer.write_eof()
        answered = await answers(reader)
    assert statuses(answered) == [200, 404, 200]
    assert answered.count(b'{"alive":true}') == 1
    assert b"no such path" not in answered


# --- connections


async def test_keep_alive_is_told(served: Served, deadlines: Deadlines) -> None:
    """What the client may rely on is less than what is kept."""
    async with served.client.get("/livez") as answer:
        assert answer.headers["Keep-Alive"] == f"timeout={deadlines.idle_s:.0f}"
        assert answer.headers["Connection"] == "keep-alive"
    assert IDLE_GRACE_S > 0


async def test_a_connection_that_ends_is_not_said_to_stay(served: Served) -> None:
    for headers in ({"Connection": "close"}, {"Connection": "Upgrade", "Upgrade": "h2c"}):
        async with served.client.get("/livez", headers=headers) as answer:
            assert answer.headers["Connection"] == "close"
            assert "Keep-Alive" not in answer.headers
    served.readiness.accepting = False
    async with served.client.get("/livez") as answer:
        assert answer.headers["Connection"] == "close"


class TestWithoutKeepAlive:
    """TIDEGATE_KEEP_ALIVE_S=0."""

    @pytest.fixture
    def deadlines(self) -> Deadlines:
        return Deadlines(idle_s=0)

    async def test_each_answer_ends_its_connection(self, served: Served) -> None:
        async with connected(served) as (reader, writer):
            writer.write(head_of(served, "/livez", method="GET"))
            answered = await answers(reader)
        assert b"Connection: close" in answered
        assert answered.endswith(b'{"alive":true}')


class TestWithAShortKeepAlive:
    """A setting of one second."""

    @pytest.fixture
    def deadlines(self) -> Deadlines:
        return Deadlines(idle_s=1)

    async def test_an_idle_connection_is_closed(self, served: Served) -> None:
        async with connected(served) as (reader, writer):
            writer.write(head_of(served, "/livez", method="GET"))
            answered = await answers(reader)
        assert b"Keep-Alive: timeout=1\r\n" in answered


@pytest.mark.parametrize("sent", ["at once", "in pieces"])
async def test_a_half_closed_request_is_answered(served: Served, sent: str) -> None:
    """The whole request, then FIN; the answer comes, and the connection ends."""
    request = post_of(served)
    async with connected(served) as (reader, writer):
        for piece in [request] if sent == "at once" else [request[:40], request[40:-9], request[-9:]]:
            writer.write(piece)
            await asyncio.sleep(0)
        writer.write_eof()
        answered = await answers(reader)
    assert statuses(answered) == [202]
    assert len(served.publisher.published) == 1


async def test_every_request_before_the_half_close_is_answered(served: Served) -> None:
    async with connected(served) as (reader, writer):
        writer.write(b"".join(post_of(served, seq) for seq in range(1, 31)))
        writer.write_eof()
        answered = await answers(reader)
    assert statuses(answered) == [202] * 30
    assert len(served.publisher.published) == 30


async def test_a_half_closed_connection_without_a_request_is_closed(served: Served) -> None:
    for sent in (b"", b"GET /livez HTT", head_of(served, "/livez", method="GET")):
        async with connected(served) as (reader, writer):
            writer.write(sent)
            if sent.endswith(b"\r\n\r\n"):
                await reader.readuntil(b"}")  # answered, and idle
            writer.write_eof()
            assert await answers(reader) == b""


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_half_closed_body_is_400_and_nothing_is_accepted(served: Served, framing: str) -> None:
    """A batch of lines that is cut at the end of a line is no shorter batch."""
    lines = b"".join(json.dumps(builders.event(seq)).encode() + b"\n" for seq in (1, 2, 3))
    path, media_type = f"{EVENTS}/batch", b"application/x-ndjson"
    head = head_of(served, path, length=len(lines) + 100).replace(b"application/json", media_type)
    body = lines
    if framing == "chunks":
        head = head.replace(b"Content-Length: %d" % (len(lines) + 100), b"Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n" % (len(lines), lines)
    for split in (True, False):
        async with connected(served) as (reader, writer):
            writer.write(head + body)
            if split:
                for _ in range(10):
                    await asyncio.sleep(0)  # the handler begins to read
            writer.write_eof()
            answered = await answers(reader)
        assert statuses(answered) == [400]
        assert b"the body is incomplete" in answered
    assert served.publisher.published == []


@dataclass
class Logged:
    """All that is logged at error level meanwhile, by us and by aiohttp."""

    ours: list[Any]
    aiohttps: pytest.LogCaptureFixture

    def errors(self) -> list[Any]:
        own = [line for line in self.ours if line["log_level"] in ("error", "critical")]
        return own + [record for record in self.aiohttps.records if record.levelno >= logging.ERROR]


async def wait_counted(served: Served, route: str, status: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while not counted(served, "POST", route, status):
            async with served.client.get("/livez"):
                pass


@pytest.mark.parametrize("key", ["all", "reader"])
@pytest.mark.parametrize("ending", ["reset", "close"])
async def test_a_client_that_leaves_in_the_middle_of_a_body_is_no_error_of_ours(
    served: Served, caplog: pytest.LogCaptureFixture, key: str, ending: str
) -> None:
    """A reset is counted as 499; a close may be half a close, and is answered 400. No traceback, no 500."""
    route = "/api/runs/{run_id}/events"
    status = {"reader": 403, "all": CLIENT_GONE if ending == "reset" else 400}[key]
    with structlog.testing.capture_logs() as logged:
        with socket.create_connection(("127.0.0.1", served.port)) as client:
            if ending == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            head = head_of(served, length=1000).replace(served.keys["all"].encode(), served.keys[key].encode())
            client.sendall(head + b'{"seq":')
            async with asyncio.timeout(WAIT_S):
                while not counted(served, "POST", route, 403) if key == "reader" else not await _reads(served):
                    async with served.client.get("/livez"):
                        pass
        await wait_counted(served, route, status)
        for _ in range(20):
            async with served.client.get("/livez"):
                pass
    assert Logged(logged, caplog).errors() == []
    assert counted(served, "POST", route, 500) == counted(served, "", UNMATCHED, 500) == 0
    assert served.publisher.published == []


async def _reads(served: Served) -> bool:
    """Return whether a handler has begun to read a body: the turns of the loop that one more request takes."""
    async with served.client.get("/livez"):
        return True


async def test_a_failure_of_ours_is_not_taken_for_a_client_that_left(served: Served) -> None:
    """A ConnectionError of what stands behind us is an error of ours: it is answered and logged."""
    served.store.failure = ConnectionResetError("by a back end")
    with structlog.testing.capture_logs() as logged:
        async with served.client.get("/api/runs", headers=served.headers()) as answer:
            assert (answer.status, (await answer.json())["code"]) == (500, "INTERNAL_ERROR")
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["request failed"]


# --- formats


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("application/json; charset=utf8", 202),
        ('application/json;charset="UTF8"', 202),
        ("application/json; charset=UTF-8;", 202),
        ("application/json ; Charset=utf-8 ; charset=utf8", 202),
        ("application/json; charset=latin1", 415),
        ("application/json; charset=utf-16", 415),
        ("application/json; charset=", 415),
        ("application/json; charset", 415),
        ("application/json; boundary=utf8", 415),
        ("charset=utf8", 415),
        ("", 415),
    ],
)
async def test_utf8_has_two_names(served: Served, given: str, status: int) -> None:
    body = json.dumps(builders.event()).encode()
    headers = served.headers(**{"Content-Type": given})
    async with served.client.post(EVENTS, data=body, headers=headers) as answer:
        assert answer.status == status
