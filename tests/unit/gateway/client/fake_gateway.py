"""A gateway in this process, on a real loopback socket, that can be told how to misbehave."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

RETRY_AT_ONCE = {"Retry-After": "0"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is answered instead of the truth; `taken` says whether the request had its effect before."""

    status: int | None  # None: the connection is cut
    code: str = "TEST"
    headers: dict[str, str] = field(default_factory=dict)
    taken: bool = False
    never: bool = False  # the connection stays open without an answer
    body: bytes | None = None  # None: a problem document
    expected_seq: int | None = None


HANG = Answer(status=None, never=True)
CUT = Answer(status=None)
TAKEN_AND_CUT = Answer(status=None, taken=True)
BUSY = Answer(status=429, code="BACKPRESSURE", headers=RETRY_AT_ONCE)
LOG_AWAY = Answer(status=503, code="LOG_UNAVAILABLE", headers=RETRY_AT_ONCE)


class FakeGateway:
    """
    Numbers and keys are checked as the gateway does. `answers` are used up first, one a request for events;
    `verdict` may refuse an event of a batch, and `other_answers` any other request.
    """

    def __init__(self) -> None:
        self.url = ""
        self.answers: deque[Answer] = deque()
        self.other_answers: deque[Answer] = deque()  # environment, finalize, GET
        self.verdict: Callable[[dict[str, Any]], Answer | None] = lambda _event: None
        self.refuse_batch: Callable[[bytes], Answer | None] = lambda _body: None
        self.on_results: Callable[[], None] = lambda: None
        self.always: Answer | None = None  # whatever is asked for, once the queues above are empty
        self.sent: list[dict[str, Any]] = []  # every event that came in, taken or not
        self.batches: list[list[int]] = []  # the numbers in each request
        self.bodies: list[bytes] = []
        self.events: dict[str, list[dict[str, Any]]] = {}  # what was taken, by run
        self.environments: dict[str, Any] = {}
        self.finalized: dict[str, Any] = {}
        self.api_keys: set[str] = set()
        self.unread_count = 0  # how many events of each run a read does not show yet
        self.may_read = True
        self.arrived = asyncio.Event()  # a request for events
        self.asked = asyncio.Event()  # any request
        self._stopping = asyncio.Event()

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["FakeGateway"]:
        app = web.Application(client_max_size=32 * 1024 * 1024)
        app.router.add_post("/api/runs/{run}/events/batch", self._take_batch)
        app.router.add_get("/api/runs/{run}", self._show_run)
        app.router.add_post("/api/runs/{run}/events/", self._take_event)
        app.router.add_post("/api/runs/{run}/finalize", self._finalize)
        app.router.add_put("/api/runs/{run}/environment", self._take_environment)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield self
        self._stopping.set()
        await runner.cleanup()

    async def _take_event(self, request: web.Request) -> web.StreamResponse:
        event = json.loads(await self._receive(request))
        self.sent.append(event)
        answer = await self._next_answer(self.answers)
        if answer is not None and not answer.taken:
            return _misbehave(request, answer)
        run = request.match_info["run"]
        refusal = self._refusal(run, event)
        if refusal is not None:
            return _problem(refusal)
        status = self._take(run, event)
        return _misbehave(request, answer) if answer is not None else _promise(status, event["seq"])

    async def _take_batch(self, request: web.Request) -> web.StreamResponse:
        body = await self._receive(request)
        events = json.loads(body)
        self.sent += events
        self.batches.append([event["seq"] for event in events])
        answer = self.refuse_batch(body) or await self._next_answer(self.answers)
        if answer is not None and not answer.taken:
            return _misbehave(request, answer)
        results: list[dict[str, Any]] = []
        for event in events:
            refusal = self._refusal(request.match_info["run"], event)
            if refusal is not None:
                rejected = {"status": "rejected", "seq": event["seq"], "code": refusal.code, "detail": "as told"}
                if refusal.expected_seq is not None:
                    rejected["expected_seq"] = refusal.expected_seq
                results.append(rejected)
                results += [{"status": "skipped"}] * (len(events) - len(results))
                break
            status = self._take(request.match_info["run"], event)
            results.append({"status": status, "seq": event["seq"], "wal_id": f"run.events/0/{event['seq']}"})
        if answer is not None:
            return _misbehave(request, answer)
        self.on_results()
        whole = all(result["status"] in ("accepted", "duplicate") for result in results)
        return web.json_response({"results": results}, status=202 if whole else 207)

    async def _receive(self, request: web.Request) -> bytes:
        body = await request.read()
        self.bodies.append(body)
        self.api_keys.add(request.headers["X-API-Key"])
        self.arrived.set()
        return body

    async def _next_answer(self, answers: deque[Answer]) -> Answer | None:
        self.asked.set()
        answer = answers.popleft() if answers else self.always
        if answer is not None and answer.never:
            await self._stopping.wait()
        return answer

    def _refusal(self, run: str, event: dict[str, Any]) -> Answer | None:
        if refusal := self.verdict(event):
            return refusal
        taken, seq = self.events.setdefault(run, []), event["seq"]
        same = taken[seq - 1] if seq <= len(taken) else None
        if same == event:
            return None
        keys = [one["meta"]["idempotency_key"] for one in taken]
        if same is not None or event["meta"]["idempotency_key"] in keys:
            return Answer(status=409, code="IDEMPOTENCY_CONFLICT")
        if run in self.finalized:
            return Answer(status=409, code="RUN_FINALIZED")
        if seq != len(taken) + 1:
            return Answer(status=409, code="SEQUENCE_ERROR", expected_seq=len(taken) + 1)
        return None

    def _take(self, run: str, event: dict[str, Any]) -> str:
        taken = self.events.setdefault(run, [])
        if event["seq"] <= len(taken):
            return "duplicate"
        taken.append(event)
        return "accepted"

    async def _finalize(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if (answer := await self._next_answer(self.other_answers)) is not None:
            return _misbehave(request, answer)
        self.finalized[request.match_info["run"]] = body
        return _promise("accepted", 0)

    async def _take_environment(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if (answer := await self._next_answer(self.other_answers)) is not None:
            return _misbehave(request, answer)
        self.environments[request.match_info["run"]] = body
        return _promise("accepted", 0)

    async def _show_run(self, request: web.Request) -> web.StreamResponse:
        if (answer := await self._next_answer(self.other_answers)) is not None:
            return _misbehave(request, answer)
        if not self.may_read:
            return _problem(Answer(status=403, code="FORBIDDEN"))
        count = len(self.events.get(request.match_info["run"], [])) - self.unread_count
        if count <= 0:
            return _problem(Answer(status=404, code="NOT_FOUND"))
        return web.json_response({"run_id": request.match_info["run"], "last_seq": count})


def _promise(status: str, seq: int) -> web.Response:
    return web.json_response({"status": status, "wal_id": f"run.events/0/{seq}", "seq": seq}, status=202)


def _misbehave(request: web.Request, answer: Answer) -> web.StreamResponse:
    if answer.status is None:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()
    return _problem(answer)


def _problem(answer: Answer) -> web.Response:
    assert answer.status is not None
    if answer.body is not None:
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)
    document = {"status": answer.status, "code": answer.code, "detail": "as told", "errors": []}
    if answer.expected_seq is not None:
        document["expected_seq"] = answer.expected_seq
    return web.json_response(
        document,
        status=answer.status,
        headers=answer.headers,
        content_type="application/problem+json",
    )
