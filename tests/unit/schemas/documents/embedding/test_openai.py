"""The embedder `openai` against a real server on loopback, which misbehaves as a test says."""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from schemas.documents.embedding.config import OpenAiSettings, VectorEncoding
from schemas.documents.embedding.contract import Embedded, EmbedderAway, EmbeddingFailed, FailureReason, TextKind
from schemas.documents.embedding.guard import GuardedEmbedder
from schemas.documents.embedding.openai import OpenAiEmbedder
from schemas.documents.embedding.openai_answers import AnswerInvalid, vectors_in
from schemas.documents.embedding.openai_requests import HttpPost, address_fault
from schemas.process.settings import SettingsInvalid, effective

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = "sk-very-secret-0123456789"
SETTINGS = OpenAiSettings(key=KEY, dimensions=3, internal_allowed=True, timeout_s=5.0, wait_s=5.0)

Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def vector_of(text: str) -> list[float]:
    """Return a vector that tells texts apart, of a length other than 1."""
    return [3.0, float(len(text)), float(sum(map(ord, text)) % 97)]


def right(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"index": place, "embedding": vector_of(text)} for place, text in enumerate(document["input"])]


async def answers_right(_request: web.Request, document: dict[str, Any]) -> web.StreamResponse:
    return web.json_response({"data": right(document)})


@dataclass
class Server:
    """A server of `/v1/embeddings`; it keeps what it was asked."""

    answer: Answer = answers_right
    documents: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    in_flight_count: int = 0
    in_flight_most: int = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        document = await request.json()
        self.documents.append(document)
        self.headers.append(dict(request.headers))
        self.in_flight_count += 1
        self.in_flight_most = max(self.in_flight_most, self.in_flight_count)
        try:
            return await self.answer(request, document)
        finally:
            self.in_flight_count -= 1


class Clock:
    """A clock that a pause sets forward."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.pauses_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def pause(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.now_s += seconds


@dataclass
class Rig:
    """A server, the embedder that asks it, and its clock."""

    server: Server
    inner: OpenAiEmbedder
    clock: Clock

    async def embed(self, *texts: str, kind: TextKind = TextKind.PASSAGE) -> Sequence[Embedded]:
        guarded = GuardedEmbedder(
            self.inner, name="openai", id=self.inner.id, dimensions=3, tokens_max=10, is_local=False
        )
        return await guarded.embed(texts, kind=kind)

    async def failure(self, *texts: str) -> EmbeddingFailed:
        """Return the failure of every text, which must be one and the same."""
        found = await self.embed(*texts)
        assert len(found) == len(texts)
        assert all(isinstance(each, EmbeddingFailed) for each in found)
        [only] = {each for each in found if isinstance(each, EmbeddingFailed)}
        return only


@asynccontextmanager
async def rig(answer: Answer = answers_right, **changes: Any) -> AsyncIterator[Rig]:
    server = Server(answer)
    app = web.Application()
    app.router.add_post("/v1/embeddings", server.serve)
    settings = replace(SETTINGS, **changes)
    async with TestServer(app) as listening:
        post = HttpPost(
            str(listening.make_url("/v1")),
            key=settings.key,
            timeout_s=settings.timeout_s,
            internal_allowed=settings.internal_allowed,
            clock=lambda: NOW,
        )
        clock = Clock()
        embedder = OpenAiEmbedder(settings, post, clock_s=clock, pause=clock.pause)
        try:
            yield Rig(server, embedder, clock)
        finally:
            await embedder.close()


def says(document: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    async def answer(_request: web.Request, _document: dict[str, Any]) -> web.StreamResponse:
        text = document if isinstance(document, str) else json.dumps(document)
        return web.Response(text=text, status=status, headers=headers, content_type="application/json")

    return answer


def is_right(text: str, found: Embedded) -> bool:
    expected = np.array(vector_of(text))
    return not isinstance(found, EmbeddingFailed) and bool(np.allclose(found, expected / np.linalg.norm(expected)))


async def test_texts_have_their_vectors_normalised() -> None:
    async with rig() as running:
        texts = ["a", "bb", "tide"]
        found = await running.embed(*texts)
        assert [is_right(text, each) for text, each in zip(texts, found, strict=True)] == [True] * 3
        assert running.server.documents == [
            {"model": "text-embedding-3-small", "input": texts, "encoding_format": "float"}
        ]
        assert running.server.headers[0]["Authorization"] == f"Bearer {KEY}"


async def test_base64_is_read_and_asked_for() -> None:
    async def answer(_request: web.Request, document: dict[str, Any]) -> web.StreamResponse:
        data = [
            {**item, "embedding": base64.b64encode(struct.pack("<3f", *item["embedding"])).decode()}
            for item in right(document)
        ]
        return web.json_response({"data": data})

    async with rig(answer, encoding=VectorEncoding.BASE64) as running:
        [found] = await running.embed("tide")
        assert is_right("tide", found)
        assert running.server.documents[0]["encoding_format"] == "base64"


async def test_results_are_taken_by_index() -> None:
    async def answer(_request: web.Request, document: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"data": right(document)[::-1]})

    async with rig(answer) as running:
        texts = ["a", "bb", "tide"]
        found = await running.embed(*texts)
        assert all(is_right(text, each) for text, each in zip(texts, found, strict=True))


async def test_prefixes_and_dimensions_are_sent_where_they_are_set() -> None:
    async with rig(passage_prefix="passage: ", query_prefix="query: ", sends_dimensions=True) as running:
        await running.embed("tide")
        await running.embed("gate", kind=TextKind.QUERY)
        assert [each["input"] for each in running.server.documents] == [["passage: tide"], ["query: gate"]]
        assert [each["dimensions"] for each in running.server.documents] == [3, 3]


async def test_requests_are_bounded_in_inputs_and_tokens() -> None:
    async with rig(inputs_max=3, request_tokens_max=4, tokens_max=6) as running:
        texts = ["a", "b", "c", "d", "e f g", "h i", "j k l m n", "o p q r s t u"]
        found = await running.embed(*texts)
        assert sorted(each["input"] for each in running.server.documents) == [
            ["a", "b", "c"],
            ["d", "e f g"],
            ["h i"],
            ["j k l m n"],
        ]
        assert all(is_right(text, each) for text, each in zip(texts[:7], found[:7], strict=True))
        assert isinstance(found[7], EmbeddingFailed)
        assert found[7].reason is FailureReason.TOO_LONG


BAD_ANSWERS: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "no answer of /v1/embeddings"),
    "NaN": ('{"data": [{"index": 0, "embedding": [NaN, 0, 0]}]}', "no answer of /v1/embeddings"),
    "nested without end": ("[" * 50_000, "no answer of /v1/embeddings"),
    "nested in what is not looked at": ('{"a":' * 12_000, "no answer of /v1/embeddings"),
    "an error": ({"error": {"message": "no"}}, "no answer of /v1/embeddings"),
    "no index": ({"data": [{"embedding": [1, 0, 0]}]}, "no answer of /v1/embeddings"),
    "text in a vector": ({"data": [{"index": 0, "embedding": ["1", 0, 0]}]}, "no answer of /v1/embeddings"),
    "nothing": ({"data": []}, "0 vectors for 2 inputs"),
    "half": ({"data": [{"index": 0, "embedding": [1, 0, 0]}]}, "1 vectors for 2 inputs"),
    "twice the same": ({"data": [{"index": 0, "embedding": [1, 0, 0]}] * 2}, "two vectors for input 0"),
    "an index beyond": ({"data": [{"index": each, "embedding": [1, 0, 0]} for each in (0, 2)]}, "a vector for input 2"),
    "a negative index": (
        {"data": [{"index": each, "embedding": [1, 0, 0]} for each in (0, -1)]},
        "a vector for input -1",
    ),
    "no base64": ({"data": [{"index": each, "embedding": "?"} for each in (0, 1)]}, "no base64"),
    "base64 of half a float": ({"data": [{"index": each, "embedding": "AAAA"} for each in (0, 1)]}, "no base64"),
    "a huge body": ("[" + " " * 200_000 + "]", "an answer of more than 67"),
}


@pytest.mark.parametrize(("document", "detail"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_an_answer_that_does_not_fit_is_a_failed_attempt_of_its_texts(document: Any, detail: str) -> None:
    async with rig(says(document)) as running:
        failure = await running.failure("tide", "gate")
        assert failure.reason is FailureReason.BAD_ANSWER
        assert failure.is_retryable
        assert detail in failure.detail


BAD_VECTORS: dict[str, tuple[Any, str]] = {
    "too short": ([1.0, 0.0], "2 dimensions instead of 3"),
    "too long": ([1.0, 0.0, 0.0, 0.0], "4 dimensions instead of 3"),
    "empty": ([], "0 dimensions instead of 3"),
    "zero": ([0.0, 0.0, 0.0], "a norm of 0 instead of 1"),
    "infinite": (base64.b64encode(struct.pack("<3f", float("inf"), 0, 0)).decode(), "not finite"),
    "not a number": (base64.b64encode(struct.pack("<3f", float("nan"), 0, 0)).decode(), "not finite"),
}


@pytest.mark.parametrize(("vector", "detail"), BAD_VECTORS.values(), ids=BAD_VECTORS)
async def test_a_vector_that_is_none_is_a_failed_attempt_of_its_text(vector: Any, detail: str) -> None:
    async def answer(_request: web.Request, document: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"data": [right(document)[0], {"index": 1, "embedding": vector}]})

    async with rig(answer) as running:
        whole, broken = await running.embed("tide", "gate")
        assert is_right("tide", whole)
        assert isinstance(broken, EmbeddingFailed)
        assert broken.reason is FailureReason.BAD_VECTOR
        assert detail in broken.detail


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async with rig(says("", status=status, headers={"Location": "/v1/embeddings"})) as running:
        failure = await running.failure("tide")
        assert failure.reason is FailureReason.BAD_ANSWER
        assert f"HTTP {status}: redirects are not followed" in failure.detail
        assert len(running.server.documents) == 1


@pytest.mark.parametrize("status", [401, 402, 403, 404, 405])
async def test_a_wrong_key_or_address_fails_for_good_and_does_not_show_the_key(status: int) -> None:
    async with rig(says({"error": f"Incorrect key {KEY}"}, status=status)) as running:
        failure = await running.failure("tide", "gate")
        assert failure.reason is FailureReason.CONFIGURATION
        assert not failure.is_retryable
        assert "check TIDEGATE_OPENAI_URL, _MODEL and _KEY" in failure.detail
        assert "secret" not in failure.detail
        assert len(running.server.documents) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_inputs_that_are_refused_are_found_and_the_others_have_their_vectors(status: int) -> None:
    async def answer(_request: web.Request, document: dict[str, Any]) -> web.StreamResponse:
        if any("bad" in text for text in document["input"]):
            return web.json_response({"error": {"message": "input is bad"}}, status=status)
        return await answers_right(_request, document)

    async with rig(answer) as running:
        texts = [f"text {place}" for place in range(32)]
        texts[3], texts[20] = "bad one", "bad two"
        found = await running.embed(*texts)
        for place, (text, each) in enumerate(zip(texts, found, strict=True)):
            if place in (3, 20):
                assert isinstance(each, EmbeddingFailed)
                assert each.reason is FailureReason.REFUSED
                assert not each.is_retryable
                assert "input is bad" in each.detail
            else:
                assert is_right(text, each)
        assert len(running.server.documents) <= 2 * (2 * 5) + 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 529])
async def test_a_server_that_is_overloaded_is_away(status: int) -> None:
    async with rig(says("later", status=status)) as running:
        with pytest.raises(EmbedderAway, match=f"HTTP {status}: later") as caught:
            await running.embed("tide", "gate")
        assert caught.value.retry_after_s is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        ("86400", 300.0),
        ("soon", None),
    ],
)
async def test_retry_after_is_obeyed_within_bounds(header: str, seconds: float | None) -> None:
    async with rig(says("", status=429, headers={"Retry-After": header})) as running:
        with pytest.raises(EmbedderAway) as caught:
            await running.embed("tide")
        assert caught.value.retry_after_s == seconds
        running.server.answer = answers_right
        if seconds is not None:
            running.clock.now_s += seconds - 1
            with pytest.raises(EmbedderAway, match="asked to wait for 1 s more"):
                await running.embed("tide")
            assert len(running.server.documents) == 1
            running.clock.now_s += 1
        [found] = await running.embed("tide")
        assert is_right("tide", found)


async def test_what_was_embedded_before_a_server_went_away_is_kept() -> None:
    async def answer(request: web.Request, document: dict[str, Any]) -> web.StreamResponse:
        return await (answers_right if document["input"] == ["tide"] else says("", status=503))(request, document)

    async with rig(answer, inputs_max=1) as running:
        whole, missing = await running.embed("tide", "gate")
        assert is_right("tide", whole)
        assert isinstance(missing, EmbeddingFailed)
        assert missing.reason is FailureReason.AWAY
        assert missing.is_retryable


async def test_a_server_that_hangs_is_away() -> None:
    async def answer(_request: web.Request, _document: dict[str, Any]) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with rig(answer, timeout_s=0.05) as running:
        with pytest.raises(EmbedderAway, match=r"no whole answer within 0\.05 s"):
            await running.embed("tide")


@pytest.mark.parametrize(("status", "reason"), [(200, FailureReason.BAD_ANSWER), (400, FailureReason.REFUSED)])
async def test_a_body_that_never_ends_is_not_read_to_its_end(status: int, reason: FailureReason) -> None:
    async def answer(request: web.Request, _document: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(b" " * 64 * 1024)
        return response

    async with rig(answer) as running:
        assert (await running.failure("tide")).reason is reason


async def test_a_connection_that_breaks_is_away() -> None:
    async def answer(request: web.Request, _document: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"data": [')
        assert request.transport is not None
        request.transport.abort()
        return response

    async with rig(answer) as running:
        with pytest.raises(EmbedderAway):
            await running.embed("tide")


async def test_a_server_that_is_not_there_is_away() -> None:
    post = HttpPost("http://127.0.0.1:9", key=None, timeout_s=5.0, internal_allowed=True, clock=lambda: NOW)
    embedder = OpenAiEmbedder(SETTINGS, post)
    with pytest.raises(EmbedderAway, match="ClientConnectorError"):
        await embedder.embed(["tide"], kind=TextKind.PASSAGE)
    await embedder.close()


async def test_an_internal_address_is_refused_for_good_unless_it_is_allowed() -> None:
    async with rig(internal_allowed=False) as running:
        failure = await running.failure("tide")
        assert failure.reason is FailureReason.CONFIGURATION
        assert "127.0.0.1 is an internal address: set TIDEGATE_OPENAI_INTERNAL=true" in failure.detail
        assert running.server.documents == []


async def test_requests_at_a_time_are_bounded_and_fall_when_the_server_is_overloaded() -> None:
    async def answer(request: web.Request, document: dict[str, Any]) -> web.StreamResponse:
        for _ in range(20):
            await asyncio.sleep(0)
        return await answers_right(request, document)

    async with rig(answer, inputs_max=1, in_flight_max=3) as running:
        texts = [f"text {place}" for place in range(20)]
        found = await running.embed(*texts)
        assert all(is_right(text, each) for text, each in zip(texts, found, strict=True))
        assert running.server.in_flight_most == 3
        running.server.answer = says("", status=503)
        with pytest.raises(EmbedderAway):
            await running.embed("tide")
        running.server.answer, running.server.in_flight_most = answer, 0
        await running.embed("one", "two")
        assert running.server.in_flight_most == 1


async def test_who_waits_too_long_for_a_turn_is_told_that_the_server_is_away() -> None:
    async def answer(_request: web.Request, _document: dict[str, Any]) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with rig(answer, inputs_max=1, in_flight_max=1, wait_s=0.01, timeout_s=0.2) as running:
        with pytest.raises(EmbedderAway):
            await running.embed("tide", "gate")
        assert len(running.server.documents) == 1


async def test_a_quota_delays_requests_and_a_spent_one_is_away() -> None:
    async with rig(requests_per_min=10, wait_s=12.0) as running:  # one at once, then one in 6.7 s
        for _ in range(3):
            await running.embed("tide")
        assert running.clock.pauses_s == pytest.approx([60 / 9, 60 / 9])
        running.inner._requests.reserve(2, running.clock())
        with pytest.raises(EmbedderAway, match="quota is spent") as caught:
            await running.embed("tide")
        assert caught.value.retry_after_s == pytest.approx(120 / 9)


async def test_a_call_that_is_cancelled_gives_its_turn_back() -> None:
    asked = asyncio.Event()

    async def answer(_request: web.Request, _document: dict[str, Any]) -> web.StreamResponse:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with rig(answer, in_flight_max=1) as running:
        call = asyncio.create_task(running.embed("tide"))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        running.server.answer = answers_right
        [found] = await running.embed("tide")
        assert is_right("tide", found)


@given(st.text(max_size=200))
def test_estimated_tokens_are_places_of_the_text(text: str) -> None:
    spans = OpenAiEmbedder.tokens(text)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert "".join(text[start:end] for start, end in spans) == "".join(text.split())


@given(st.binary(max_size=300), st.integers(1, 5))
def test_any_bytes_are_vectors_or_an_invalid_answer(body: bytes, inputs_count: int) -> None:
    with suppress(AnswerInvalid):
        assert len(vectors_in(body, inputs_count=inputs_count)) == inputs_count


@pytest.mark.parametrize(
    ("url", "internal_allowed", "fault"),
    [
        ("https://api.example.com", False, None),
        ("https://API.example.com/openai/v1", False, None),
        ("http://api.example.com:11434", True, None),
        ("http://api.example.com", False, "not https"),
        ("https://api.example.com:11434", False, "port 11434"),
        ("https://other.example.com", False, "host other.example.com is not allowed"),
        ("https://api.example.com.evil.org", False, "is not allowed"),
        ("https://user:key@api.example.com", False, "credentials"),
        ("https://api.example.com/?a=b", False, "it must end with its path"),
        ("ftp://api.example.com", True, "neither http nor https"),
        ("api.example.com", True, "no host"),
    ],
)
def test_texts_are_sent_to_allowed_hosts_only(url: str, internal_allowed: bool, fault: str | None) -> None:
    found = address_fault(url, hosts=["api.example.com"], internal_allowed=internal_allowed)
    assert (found is None) if fault is None else (found is not None and fault in found)


@pytest.mark.parametrize(
    "changes",
    [{"model": "other"}, {"dimensions": 4}, {"query_prefix": "q"}, {"passage_prefix": "p"}, {"tokens_max": 100}],
)
async def test_all_that_decides_the_vectors_is_in_the_id(changes: dict[str, Any]) -> None:
    async with rig() as one, rig(**changes) as other:
        assert one.inner.id != other.inner.id


async def test_what_does_not_decide_them_is_not() -> None:
    async with rig() as one, rig(key="another", timeout_s=1.0, encoding=VectorEncoding.BASE64) as other:
        assert one.inner.id == other.inner.id


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"key": "sk-a\nb"}, "TIDEGATE_OPENAI_KEY must be printable ASCII"),
        ({"tokens_per_min": 100}, "TIDEGATE_OPENAI_TOKENS_PER_MIN=100 is less than one text may have"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(SettingsInvalid, match=fault):
        replace(SETTINGS, **changes)


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(SETTINGS)
    assert KEY not in str(effective(SETTINGS))
