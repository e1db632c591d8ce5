"""A server of `/v1/embeddings` for tests, in a thread: what it does wrong stands in the texts that it is sent."""

import asyncio
import hashlib
import json
import math
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum

from aiohttp import web

DIMENSIONS = 8
SLOW_S = 0.05
HANGS_S = 30.0


class Fault(StrEnum):
    """A fault of the server; a text with its name meets it."""

    LIMITED = "limited"  # 429 with Retry-After
    BROKEN = "broken"  # 500
    HANGING = "hanging"
    CUT = "cut"  # half an answer
    INCOMPLETE = "incomplete"  # a vector less
    WRONG_DIMENSIONS = "wrong_dimensions"
    NOT_A_NUMBER = "not_a_number"
    PERMUTED = "permuted"  # none, as each vector says which input it is of
    SLOW = "slow"


class EmbeddingServer:
    """The server's address, and what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: Counter[str] = Counter()  # how often, by text
        self.slow_s = SLOW_S
        self.faults_max: int | None = None  # for a text; None: for ever

    def environ(self) -> dict[str, str]:
        """Return how a process reaches it as the embedder `openai`."""
        return {
            "TIDEGATE_OPENAI_URL": self.url,
            "TIDEGATE_OPENAI_HOSTS": "127.0.0.1",
            "TIDEGATE_OPENAI_INTERNAL": "true",
            "TIDEGATE_OPENAI_DIMENSIONS": str(DIMENSIONS),
            "TIDEGATE_OPENAI_TIMEOUT": "2",
        }

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request, or do what its texts say."""
        texts: list[str] = (await request.json())["input"]
        for text in texts:
            self.asked[text] += 1
        fault = self._fault(texts)
        match fault:
            case Fault.LIMITED:
                return web.Response(status=429, headers={"Retry-After": "1"})
            case Fault.BROKEN:
                return web.Response(status=500)
            case Fault.HANGING:
                await asyncio.sleep(HANGS_S)
            case Fault.SLOW:
                await asyncio.sleep(self.slow_s)
        return web.Response(text=_body(texts, fault), content_type="application/json")

    def _fault(self, texts: Sequence[str]) -> Fault | None:
        for text in texts:
            for fault in Fault:
                if fault in text and (self.faults_max is None or self.asked[text] <= self.faults_max):
                    return fault
        return None


def _body(texts: Sequence[str], fault: Fault | None) -> str:
    vectors = [vector_of(text) for text in texts]
    match fault:
        case Fault.WRONG_DIMENSIONS:
            vectors = [each[:2] for each in vectors]
        case Fault.NOT_A_NUMBER:
            vectors = [[each[0], math.nan, *each[2:]] for each in vectors]
        case Fault.INCOMPLETE:
            vectors.pop()
    data = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    if fault is Fault.PERMUTED:
        data.reverse()
    whole = json.dumps({"data": data}).replace("NaN", "1e999")  # JSON has no other way to say it
    return whole[: len(whole) // 2] if fault is Fault.CUT else whole


def vector_of(text: str) -> list[float]:
    """Return the vector of a text."""
    digest = hashlib.sha256(text.encode()).digest()
    return [each - 127.5 for each in digest[:DIMENSIONS]]


@contextmanager
def embedding_server() -> Iterator[EmbeddingServer]:
    """Serve, on a port that is free."""
    server, loop = EmbeddingServer(), asyncio.new_event_loop()
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_post("/v1/embeddings", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
