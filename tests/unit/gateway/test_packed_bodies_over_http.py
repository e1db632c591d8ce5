"""Content-Encoding, from the request to the record; nothing of it on the event loop but small bodies."""

import asyncio
import json
import threading
import time

import pytest

from gateway.errors import EventTooLarge
from gateway.http.bodies import SMALL_BYTES_MAX, Body, MediaType
from gateway.http.codings import Coding
from schemas.catalogue import CODEC
from schemas.runs.records import EnvironmentCaptured, RunEvent
from schemas.runs.rules import EVENT_BYTES_MAX
from tests.support import builders
from tests.support.packing import MIB, PACK, bomb
from tests.unit.gateway.conftest import Served, made_of

EVENTS = f"/api/runs/{builders.RUN}/events/"


def _packed(served: Served, coding: str) -> dict[str, str]:
    return served.headers(**{"Content-Type": "application/json", "Content-Encoding": coding})


@pytest.mark.parametrize("coding", Coding)
@pytest.mark.parametrize("text", ["short", "x" * 100_000], ids=["small", "large"])
async def test_a_packed_event_is_the_event(served: Served, coding: Coding, text: str) -> None:
    event = builders.signed(builders.event(payload={"text": text}))
    body = PACK[coding](json.dumps(event).encode())
    async with served.client.post(EVENTS, data=body, headers=_packed(served, coding)) as answer:
        assert answer.status == 202, await answer.text()
    record = CODEC.decode(served.publisher.published[0].value)
    assert isinstance(record, RunEvent)
    assert record.payload == json.dumps({"text": text})


@pytest.mark.parametrize("coding", Coding)
async def test_every_route_with_a_body_takes_it_packed(served: Served, coding: Coding) -> None:
    run = f"/api/runs/{builders.RUN}"
    body = PACK[coding](b'{"status":"succeeded"}')
    async with served.client.post(f"{run}/finalize", data=body, headers=_packed(served, coding)) as answer:
        assert answer.status == 202
    body = PACK[coding](b'{ "python": "3.11" }')
    async with served.client.put(f"{run}/environment", data=body, headers=_packed(served, coding)) as answer:
        assert answer.status == 202
    captured = CODEC.decode(served.publisher.published[1].value)
    assert isinstance(captured, EnvironmentCaptured)
    assert captured.environment == '{ "python": "3.11" }'


@pytest.mark.parametrize("coding", Coding)
@pytest.mark.parametrize("path", ["events", "finalize"])
async def test_a_bomb_is_413(served: Served, coding: Coding, path: str) -> None:
    body = bomb(coding, 50 * MIB)
    assert len(body) < 100 * 1024
    headers = _packed(served, coding)
    body = body if path == "events" else bomb(coding, 5000)
    async with served.client.post(f"/api/runs/{builders.RUN}/{path}", data=body, headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_the_packed_body_is_bounded_too(served: Served) -> None:
    async def chunks():  # noqa: ANN202
        for _ in range(12):
            yield b"\0" * MIB

    async with served.client.post(EVENTS, data=chunks(), headers=_packed(served, "gzip")) as answer:
        assert (answer.status, (await answer.json())["code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("coding", Coding)
@pytest.mark.parametrize(
    "spoil",
    [lambda body: body[:-1], lambda body: body + b"x", lambda body: body * 2, lambda _: b"{}", lambda _: b""],
    ids=["cut", "tail", "twice", "not packed", "empty"],
)
async def test_a_broken_stream_is_400(served: Served, coding: Coding, spoil) -> None:  # noqa: ANN001
    body = spoil(PACK[coding](json.dumps(builders.event()).encode()))
    async with served.client.post(EVENTS, data=body, headers=_packed(served, coding)) as answer:
        problem = await answer.json()
        assert (answer.status, problem["code"]) == (400, "BAD_REQUEST")
    assert coding in problem["detail"]


@pytest.mark.parametrize("given", ["compress", "gzip, br", "identity, gzip", "gzip;q=1"])
async def test_other_codings_and_several_are_415(served: Served, given: str) -> None:
    """The answer names those that are taken (RFC 9110, 15.5.16)."""
    async with served.client.post(EVENTS, data=b"x", headers=_packed(served, given)) as answer:
        assert (answer.status, (await answer.json())["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
        assert answer.headers["Accept-Encoding"] == "gzip, deflate, br, zstd"


@pytest.mark.parametrize("coding", Coding)
async def test_what_is_not_json_when_inflated_is_as_if_it_came_so(served: Served, coding: Coding) -> None:
    async with served.client.post(EVENTS, data=PACK[coding](b"{"), headers=_packed(served, coding)) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("coding", [None, *Coding])
@pytest.mark.parametrize("inflated_bytes", [10, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1])
async def test_only_small_bodies_are_inflated_and_judged_on_the_loop(
    coding: Coding | None, inflated_bytes: int
) -> None:
    """Brotli never: its decoder fills a window first, however small the stream."""
    inflated = b" " * inflated_bytes
    received = inflated if coding is None else PACK[coding](inflated)
    body = Body(received=received, media_type=MediaType.JSON, coding=coding, bytes_max=MIB)
    judged_text, thread = await made_of(body, lambda text: (text, threading.current_thread()))
    assert judged_text == inflated
    on_loop = thread is threading.main_thread()
    assert on_loop == (inflated_bytes <= SMALL_BYTES_MAX and coding is not Coding.BR)


TRIES = 10


@pytest.mark.parametrize("coding", Coding)
async def test_a_bomb_leaves_the_loop_turning(coding: Coding) -> None:
    """
    Were it inflated on the loop, the loop would turn twice each time; another thread may be slow to let it turn.

    The bound on a turn is far above a busy machine's.
    """
    packed = bomb(coding, 200 * MIB)
    body = Body(received=packed, media_type=MediaType.JSON, coding=coding, bytes_max=EVENT_BYTES_MAX)
    seen = [await turns_while_refused(body) for _ in range(TRIES)]
    assert max(turns for turns, _ in seen) > 5
    assert max(longest_s for _, longest_s in seen) < 5


async def turns_while_refused(body: Body) -> tuple[int, float]:
    """Return how often the loop turns until *body* is found to be too large, and its longest turn in seconds."""
    inflating = asyncio.create_task(made_of(body, len))
    turns, longest_s, last_s = 0, 0.0, time.perf_counter()
    while not inflating.done():
        await asyncio.sleep(0)
        now_s = time.perf_counter()
        turns, longest_s, last_s = turns + 1, max(longest_s, now_s - last_s), now_s
    with pytest.raises(EventTooLarge):
        await inflating
    return turns, longest_s
