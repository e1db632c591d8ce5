"""A gateway in this process, on a real loopback socket, that can be told how to misbehave."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
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


HANG = Answer(status=None, never=True)
CUT = Answer(status=None)
TAKEN_AND_CUT = Answer(status=None, taken=True)
BUSY = Answer(status=429, code="BACKPRESSURE", headers=RETRY_AT_ONCE)
LOG_AWAY = Answer(status=503, code="LOG_UNAVAILABLE", headers=RETRY_AT_ONCE)


class FakeGateway:
    """Numbers and keys are checked as the gateway does; `answers` are used up first, one an event."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: deque[Answer] = deque()
        self.sent: list[dict[str, Any]] = []  # every event that came in, taken or not
        self.bodies: list[bytes] = []
        self.events: dict[str, list[dict[str, Any]]] = {}  # what was taken, by run
        self.environments: dict[str, Any] = {}
        self.finalized: dict[str, Any] = {}
        self.api_keys: set[str] = set()
        self._stopping = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeGateway"]:
        app = web.Application()
        app.router.add_post("/api/runs/{run}/events/", self._take_event)
        app.router.add_post("/api/runs/{run}/finalize", self._finalize)
        app.router.add_put("/api/runs/{run}/environment", self._take_environment)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield self
        self._stopping.set()
        await runner.cleanup()

    async def _take_event(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        event = json.loads(body)
        self.bodies.append(body)
        self.sent.append(event)
        self.api_keys.add(request.headers["X-API-Key"])
        taken = self.events.setdefault(request.match_info["run"], [])
        answer = self.answers.popleft() if self.answers else None
        if answer is not None and answer.never:
            await self._stopping.wait()
        if answer is not None and not answer.taken:
            return _misbehave(request, answer)
        seq = event["seq"]
        if seq <= len(taken) and taken[seq - 1] == event:
            return _promise("duplicate", seq)
        if seq != len(taken) + 1:
            return _problem(Answer(status=409, code="SEQUENCE_ERROR"))
        taken.append(event)
        return _misbehave(request, answer) if answer is not None else _promise("accepted", seq)

    async def _finalize(self, request: web.Request) -> web.StreamResponse:
        self.finalized[request.match_info["run"]] = await request.json()
        return _promise("accepted", 0)

    async def _take_environment(self, request: web.Request) -> web.StreamResponse:
        self.environments[request.match_info["run"]] = await request.json()
        return _promise("accepted", 0)


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
    return web.json_response(
        {"status": answer.status, "code": answer.code, "detail": "as told", "errors": []},
        status=answer.status,
        headers=answer.headers,
        content_type="application/problem+json",
    )
