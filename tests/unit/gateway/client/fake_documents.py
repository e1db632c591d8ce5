"""A gateway that takes documents, and misbehaves as a test tells it to."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import NAMESPACE_URL, uuid5

from aiohttp import web
from aiohttp.test_utils import TestServer

from schemas.documents.states import ENDS, Phase

CUT = "the connection is cut before the answer"
CUT_AFTER = "the command is taken, and the connection is cut before the answer"
START = datetime(2026, 1, 1, tzinfo=UTC)  # of the first job; each is received a second later, and takes half of one
HTML = "a proxy answers in place of the gateway"


class FakeDocuments:
    """It keeps each command once by its idempotency key, as a gateway does."""

    def __init__(self) -> None:
        """Take everything."""
        self.url = ""
        self.misdeeds: list[object] = []  # of the next requests: one of the above, or a status
        self.retry_after = "0"
        self.commands: dict[str, Any] = {}  # by job
        self.phases: dict[str, list[Phase]] = {}  # what each look at a job shows; the last one stays
        self.requests: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.end = Phase.STORED  # of jobs of which nothing else is said
        self.looks: Counter[str] = Counter()
        self.open = 0
        self.most_open = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Serve on a port of this machine."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        async with TestServer(app) as server:
            self.url = str(server.make_url("/")).rstrip("/")
            yield self

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            body = await request.read()
            self.requests.append((request.method, request.path_qs, dict(request.headers), body))
            misdeed = self.misdeeds.pop(0) if self.misdeeds else None
            if misdeed == CUT_AFTER:
                self._act(request, body)
            if misdeed in (CUT, CUT_AFTER):
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            if misdeed == HTML:
                return web.Response(text="<h1>It works</h1>")
            if isinstance(misdeed, int):
                problem = {"code": f"CODE_{misdeed}", "detail": "as told"}
                return web.json_response(problem, status=misdeed, headers={"Retry-After": self.retry_after})
            status, document = self._act(request, body)
            return web.json_response(document, status=status)
        finally:
            self.open -= 1

    def _act(self, request: web.Request, body: bytes) -> tuple[int, object]:
        method, path = request.method, request.path
        if path == "/api/documents/collections":
            books = dict.fromkeys(command["book_slug"] for command in self.commands.values())
            pages = [{"book_slug": book, "embedder": "e", "embedder_name": "hash"} for book in books]
            return 200, {"collections": pages, "next_cursor": None}
        if path == "/api/search":
            return 200, self.found
        if path == "/api/documents/metrics":
            return 200, {"total_submitted": len(self.commands)}
        if path.startswith("/api/documents/jobs/"):
            return self._look(path.rpartition("/")[2])
        if method == "DELETE" and path.count("/") == 3:
            return 202, {"book_slug": path.rpartition("/")[2], "command_id": "c-1", "wal_ids": [], "applied": False}
        key = request.headers.get("Idempotency-Key", f"{method} {path} {len(self.commands)}")
        job_id = str(uuid5(NAMESPACE_URL, key))
        is_known = job_id in self.commands
        is_json = request.content_type == "application/json" and body
        self.commands[job_id] = json.loads(body) if is_json else dict(request.query)
        accepted = {"job_id": job_id, "revision": len(self.commands), "phase": "submitted", "links": {}}
        return 202, accepted | {"wal_id": "document.commands/0/1"} | ({"duplicate": True} if is_known else {})

    def _look(self, job_id: str) -> tuple[int, object]:
        if job_id not in self.commands:
            return 404, {"code": "NOT_FOUND", "detail": "no such job"}
        self.looks[job_id] += 1
        phases = self.phases.get(job_id, [self.end])
        phase = phases.pop(0) if len(phases) > 1 else phases[0]
        number = list(self.commands).index(job_id)
        received = START + timedelta(seconds=number)
        times = {"submitted_at": received.isoformat(), "ended_at": (received + timedelta(seconds=0.5)).isoformat()}
        return 200, {
            "job_id": job_id,
            "phase": phase,
            "version": 7,
            "embedded": {"done": 1, "of": 2},
            "times": times if phase in ENDS else {**times, "ended_at": None},
        }

    found: Mapping[str, object] = {
        "hits": [
            {
                "document": {"book_slug": "harbour", "chapter_index": 1},
                "revision": 4,
                "chunk": 0,
                "span": [0, 40],
                "heading": None,
                "text": "The ice closed the harbour on 4 January.",
                "score": 0.03,
                "vector": {"rank": 1, "score": 0.8},
                "words": None,
                "metadata": {"year": 1910},
            }
        ],
        "embedders": ["e"],
        "complete": True,
        "degraded": [],
        "took_ms": 3.5,
    }
