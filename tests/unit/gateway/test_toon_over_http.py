"""TOON bodies, from the request to the record: the same record, answer and faults as JSON's."""

import asyncio
import json
import threading
from typing import Any

import pytest
import toon_format

from gateway.errors import QueueFull
from gateway.http.bodies import TOON_SMALL_BYTES_MAX, Body, MediaType
from gateway.http.child.parsing import TOON_WAITING_MAX, ThreadParser
from gateway.http.codings import Coding
from gateway.http.toon import VALUES_MAX
from schemas.canonical import event_digest
from schemas.catalogue import CODEC
from schemas.runs.records import EnvironmentCaptured, RunEvent, RunFinalized, RunStatus
from tests.support import builders
from tests.support.packing import MIB, PACK
from tests.unit.gateway.conftest import Served, made_of

EVENTS = f"/api/runs/{builders.RUN}/events/"
TOON_TYPES = ["text/toon", "application/toon", "text/toon; charset=utf-8", 'Application/TOON;charset="UTF-8"']


def _toon(served: Served, media_type: str = "text/toon", **more: str) -> dict[str, str]:
    return served.headers(**{"Content-Type": media_type, **more})


@pytest.mark.parametrize("media_type", TOON_TYPES)
async def test_a_signed_event_is_kept_as_its_json(served: Served, media_type: str) -> None:
    """Signature, digest and value are those of the JSON event; payload and meta are JSON text."""
    payload = {"rows": [{"id": 1, "score": 0.25}, {"id": 2, "score": 1.5}], "text": 'a, b: "c"\n', "none": None}
    event = builders.signed(builders.event(payload=payload))
    body = toon_format.dumps(event).encode()
    async with served.client.post(EVENTS, data=body, headers=_toon(served, media_type)) as answer:
        assert answer.status == 202, await answer.text()
        assert await answer.json() == {"status": "accepted", "wal_id": "run.events/0/0", "seq": 1}
    record = CODEC.decode(served.publisher.published[0].value)
    assert isinstance(record, RunEvent)
    assert (json.loads(record.payload or ""), json.loads(record.meta)) == (payload, event["meta"])
    assert record.event_sha256 == event_digest(event)


async def test_toon_and_json_make_the_same_record(served: Served) -> None:
    """But for blanks, which the JSON text that a client writes may have."""
    event = builders.event(payload={"é": [1, 2.5, "x"], "n": 18446744073709551615})
    as_json = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    for body, media_type, status in (
        (toon_format.dumps(event).encode(), "text/toon", "accepted"),
        (as_json, "application/json", "duplicate"),
    ):
        async with served.client.post(EVENTS, data=body, headers=_toon(served, media_type)) as answer:
            assert (await answer.json())["status"] == status
    (record,) = served.publisher.published
    compact = {name: json.dumps(event[name], ensure_ascii=False, separators=(",", ":")) for name in ("payload", "meta")}
    assert record.value == CODEC.encode(builders.run_event(event, **compact))


async def test_every_fault_is_listed(served: Served) -> None:
    body = b"seq: 0\nactor: Agent\ntype: a\npayload: 1e999\nmeta:\n  run_id: other\nx/y: 1"
    async with served.client.post(EVENTS, data=body, headers=_toon(served)) as answer:
        problem = await answer.json()
        assert (answer.status, problem["code"]) == (422, "TOON_VALIDATION_ERROR")
    assert {fault["pointer"] for fault in problem["errors"]} == {
        "/seq", "/payload", "/t", "/actor", "/meta/run_id", "/meta/agent_id", "/x~1y",
    }  # fmt: skip


@pytest.mark.parametrize("body", [b"a[2]: 1", b"\xff", b"a: 1\na: 1"])
async def test_what_does_not_parse_is_400(served: Served, body: bytes) -> None:
    async with served.client.post(EVENTS, data=body, headers=_toon(served)) as answer:
        problem = await answer.json()
        assert (answer.status, problem["code"]) == (400, "TOON_VALIDATION_ERROR")
        assert problem["detail"] == "the body is not a TOON document"
        assert [fault["pointer"] for fault in problem["errors"]] == [""]


@pytest.mark.parametrize("body", [b"", b"[1]: 1", b"text"])
async def test_toon_that_is_no_event_is_422(served: Served, body: bytes) -> None:
    """An empty document is TOON's empty object."""
    async with served.client.post(EVENTS, data=body, headers=_toon(served)) as answer:
        assert (answer.status, (await answer.json())["code"]) == (422, "TOON_VALIDATION_ERROR")


@pytest.mark.parametrize("media_type", ["text/toon; charset=latin-1", "text/x-toon", "toon", "text/toon; x=y"])
async def test_other_formats_are_refused(served: Served, media_type: str) -> None:
    async with served.client.post(EVENTS, data=b"a: 1", headers=_toon(served, media_type)) as answer:
        assert (answer.status, (await answer.json())["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_every_route_with_a_body_takes_toon(served: Served) -> None:
    run = f"/api/runs/{builders.RUN}"
    async with served.client.post(f"{run}/finalize", data=b"status: failed", headers=_toon(served)) as answer:
        assert answer.status == 202
    async with served.client.put(f"{run}/environment", data=b"threshold: 1.0", headers=_toon(served)) as answer:
        assert answer.status == 202
    finalized, captured = (CODEC.decode(record.value) for record in served.publisher.published)
    assert isinstance(finalized, RunFinalized)
    assert isinstance(captured, EnvironmentCaptured)
    assert (finalized.status, captured.environment) == (RunStatus.FAILED, '{"threshold":1.0}')


@pytest.mark.parametrize("coding", Coding)
@pytest.mark.parametrize("text", ["short", "x" * 100_000], ids=["small", "large"])
async def test_toon_may_be_packed(served: Served, coding: Coding, text: str) -> None:
    body = PACK[coding](toon_format.dumps(builders.event(payload=text)).encode())
    headers = _toon(served, **{"Content-Encoding": coding})
    async with served.client.post(EVENTS, data=body, headers=headers) as answer:
        assert answer.status == 202, await answer.text()
    record = CODEC.decode(served.publisher.published[0].value)
    assert isinstance(record, RunEvent)
    assert record.payload == json.dumps(text)


@pytest.mark.parametrize(
    "body",
    [b"a[50000]{%b}:\n" % (b"k" * 500_000) + b"  1\n" * 50_000, b"\n" * (VALUES_MAX + 1)],
    ids=["as JSON", "values"],
)
async def test_what_grows_out_of_bounds_is_413(served: Served, body: bytes) -> None:
    async with served.client.post(EVENTS, data=body, headers=_toon(served)) as answer:
        assert (answer.status, (await answer.json())["code"]) == (413, "PAYLOAD_TOO_LARGE")


def _padded(bytes_count: int) -> Body:
    text = b"a: " + b"x" * (bytes_count - 3)
    return Body(received=text, media_type=MediaType.TOON, coding=None, bytes_max=MIB)


@pytest.mark.parametrize("bytes_count", [10, TOON_SMALL_BYTES_MAX, TOON_SMALL_BYTES_MAX + 1])
async def test_only_small_toon_is_translated_on_the_loop(bytes_count: int) -> None:
    body = _padded(bytes_count)
    text, thread = await made_of(body, lambda text: (text, threading.current_thread()))
    assert text == body.json()
    assert (thread is threading.main_thread()) == (bytes_count <= TOON_SMALL_BYTES_MAX)


async def test_large_toon_beyond_what_may_wait_is_to_be_sent_again() -> None:
    """The others are judged; the answer for the rest is 429, and afterwards there is room again."""
    body, parser = _padded(TOON_SMALL_BYTES_MAX + 1), ThreadParser()

    async def outcome() -> Any:
        try:
            return await made_of(body, len, parser=parser)
        except QueueFull as error:
            return error

    outcomes = await asyncio.gather(*(outcome() for _ in range(TOON_WAITING_MAX + 3)))
    assert outcomes[:TOON_WAITING_MAX] == [len(body.json())] * TOON_WAITING_MAX
    assert all(isinstance(each, QueueFull) for each in outcomes[TOON_WAITING_MAX:])
    assert await outcome() == len(body.json())


async def test_the_code_says_whether_the_body_was_toon(served: Served) -> None:
    """In a batch too; a run that cannot be named is no fault of the body."""
    json_batch = served.headers(**{"Content-Type": "application/json"})
    for headers, code in ((_toon(served), "TOON_VALIDATION_ERROR"), (json_batch, "VALIDATION_ERROR")):
        batch = b"[1]:\n  - seq: 0" if code.startswith("TOON") else b'[{"seq": 0}]'
        async with served.client.post(f"{EVENTS}batch", data=batch, headers=headers) as answer:
            assert (answer.status, (await answer.json())["results"][0]["code"]) == (207, code)
        async with served.client.post("/api/runs/a b/events/", data=b"seq: 0", headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (422, "VALIDATION_ERROR")
