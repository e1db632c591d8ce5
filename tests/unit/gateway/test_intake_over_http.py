"""Events, finalizations and environments, from the request to the record."""

import asyncio
import json

import pytest

from gateway.errors import EventTooLarge, LogUnavailable, QueueFull
from schemas.canonical import event_digest
from schemas.catalogue import CODEC
from schemas.kafka import headers
from schemas.kafka.seal import record_mac_holds
from schemas.runs.records import EnvironmentCaptured, RunEvent, RunFinalized, RunStatus, event_id
from schemas.runs.rules import ENVIRONMENT_BYTES_MAX, EVENT_BYTES_MAX
from tests.support import builders
from tests.unit.gateway.conftest import NOW, Served

EVENTS = f"/api/runs/{builders.RUN}/events/"


async def test_an_event_becomes_one_record_and_its_receipt(served: Served) -> None:
    """202 names the place; the record has the event, the key and headers that a consumer trusts."""
    event = builders.event(1, meta={"idempotency_key": "k-1"})
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with served.client.post(EVENTS, json=event, headers=served.headers(traceparent=trace)) as answer:
        assert answer.status == 202
        assert await answer.json() == {"status": "accepted", "wal_id": "run.events/0/0", "seq": 1}
        assert answer.headers["Server"] == "tidegate"
    (record,) = served.publisher.published
    assert (record.topic, record.key) == ("run.events", builders.RUN.encode())
    decoded = CODEC.decode(record.value)
    assert isinstance(decoded, RunEvent)
    assert decoded == builders.run_event(event)
    by_name = dict(record.headers)
    mac = by_name.pop(headers.GATEWAY_MAC)
    assert by_name == {
        headers.EVENT_ID: event_id(builders.TENANT, builders.RUN, 1).encode(),
        headers.TENANT: builders.TENANT.encode(),
        headers.SEQ: b"1",
        headers.TRACEPARENT: trace.encode(),
        headers.RECEIVED_AT: headers.timestamp(NOW),
    }
    assert record_mac_holds(
        mac,
        [builders.MAC_SECRET],
        topic=record.topic,
        key=record.key,
        tenant=builders.TENANT.encode(),
        value=record.value,
    )


@pytest.mark.parametrize(
    ("payload", "meta_tail"),
    [
        ('{"a" : 1.00, "b":[1e5 ,-0.0,0.1e1],"n":18446744073709551615}', ', "x": 1.50'),
        ('"\\u00e9 \\" \\n \\/"', ', "\\u0078":"\\ud83d\\ude00"'),
        ("null", ""),
        ('{"payload":{"meta":1},"meta":"}"}', ', "payload": 2'),
        (f'"{"x" * 100_000}"', ""),
    ],
)
async def test_payload_and_meta_are_kept_as_they_were_sent(served: Served, payload: str, meta_tail: str) -> None:
    """Blanks, escapes and the notation of numbers reach the record untouched."""
    meta = f'{{ "run_id":"{builders.RUN}",  "agent_id" : 42{meta_tail} }}'
    parts = f'"actor":"agent","type":"a.b", "pay\\u006coad" : {payload} ,"meta":{meta}'
    body = f'{{"seq":1,"t":"2025-12-05T10:00:00Z",{parts}}}'
    served_meta = served.headers(**{"Content-Type": "application/json; charset=UTF-8"})
    async with served.client.post(EVENTS, data=body.encode(), headers=served_meta) as answer:
        # Agent 42 is no agent of the tenant, which is judged after the whole of the event.
        assert (answer.status, (await answer.json())["code"]) == (403, "FORBIDDEN")
    body = body.replace("42", '"plain-agent"')
    async with served.client.post(EVENTS, data=body.encode(), headers=served_meta) as answer:
        assert answer.status == 202, await answer.text()
    record = CODEC.decode(served.publisher.published[0].value)
    assert isinstance(record, RunEvent)
    assert (record.payload, record.meta) == (payload, meta.replace("42", '"plain-agent"'))
    assert record.event_sha256 == event_digest(json.loads(body))


async def test_every_fault_is_listed(served: Served) -> None:
    """Faults of form and of content come in one answer, each with its place."""
    body = b'{"seq":0,"seq":1,"actor":"Agent","type":"a","payload":1e999,"meta":{"run_id":"other"},"x/y":1}'
    headers = served.headers(**{"Content-Type": "application/json"})
    async with served.client.post(EVENTS, data=body, headers=headers) as answer:
        problem = await answer.json()
        assert (answer.status, answer.content_type) == (422, "application/problem+json")
    assert problem["code"] == "VALIDATION_ERROR"
    assert {fault["pointer"] for fault in problem["errors"]} == {
        "/seq", "/payload", "/t", "/actor", "/meta/run_id", "/meta/agent_id", "/x~1y",
    }  # fmt: skip
    assert not served.publisher.published


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"seq":1}x', b"\xef\xbb\xbf{}"], ids=["empty", "cut", "bytes", "tail", "bom"]
)
async def test_what_does_not_parse_is_400(served: Served, body: bytes) -> None:
    headers = served.headers(**{"Content-Type": "application/json"})
    async with served.client.post(EVENTS, data=body, headers=headers) as answer:
        problem = await answer.json()
        assert (answer.status, problem["code"]) == (400, "VALIDATION_ERROR")
        assert [fault["pointer"] for fault in problem["errors"]] == [""]


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000])
async def test_deep_nesting_is_refused(served: Served, body: bytes) -> None:
    headers = served.headers(**{"Content-Type": "application/json"})
    async with served.client.post(EVENTS, data=body, headers=headers) as answer:
        assert answer.status in (400, 422)
        assert (await answer.json())["code"] == "VALIDATION_ERROR"


@pytest.mark.parametrize("run_id", ["a b", "x" * 129, "%00", "ä"])
async def test_a_run_that_cannot_be_named_is_a_fault(served: Served, run_id: str) -> None:
    async with served.client.post(
        f"/api/runs/{run_id}/events/", json=builders.event(), headers=served.headers()
    ) as answer:
        assert (answer.status, (await answer.json())["code"]) == (422, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"Content-Type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"Content-Type": "application/json; charset=latin-1"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
    ],
)
async def test_other_formats_are_refused(served: Served, headers: dict[str, str], status: int, code: str) -> None:
    answer = await served.client.post(
        EVENTS, data=b"{}", headers=served.headers(**headers), skip_auto_headers=["Content-Type"]
    )
    assert (answer.status, (await answer.json())["code"]) == (status, code)


async def test_a_declared_size_is_refused_before_the_key_is_looked_at(served: Served) -> None:
    """Nothing of the body is read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(f"POST {EVENTS} HTTP/1.1\r\nHost: x\r\nContent-Length: {EVENT_BYTES_MAX + 1}\r\n\r\n".encode())
    assert b" 413 " in await reader.readline()
    writer.close()


async def test_a_chunked_body_is_refused_while_it_is_read(served: Served) -> None:
    async def chunks():  # noqa: ANN202
        for _ in range(12):
            yield b" " * 1024 * 1024

    headers = served.headers(**{"Content-Type": "application/json"})
    async with served.client.post(EVENTS, data=chunks(), headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_100_continue_comes_only_after_the_key(served: Served) -> None:
    """A client that asks first does not send 10 MiB to be told 401."""
    for key, expected in (("nobody", b" 401 "), (served.keys["all"], b" 100 ")):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        head = f"POST {EVENTS} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n".encode())
        assert expected in await reader.readline()
        writer.close()


@pytest.mark.parametrize(
    ("event", "status", "code"),
    [
        (builders.signed(builders.event()), 202, None),
        (builders.event(meta={"agent_id": "demo-agent"}), 403, "SIGNATURE_INVALID"),
        (builders.event(meta={"signature": "00"}), 403, "SIGNATURE_INVALID"),
        (builders.signed(builders.event(), secret="wrong"), 403, "SIGNATURE_INVALID"),
        (builders.event(meta={"agent_id": "unknown"}), 403, "FORBIDDEN"),
    ],
    ids=["signed", "must sign", "must not sign", "wrong secret", "unknown agent"],
)
async def test_an_agent_signs_if_it_has_a_secret(
    served: Served, event: dict[str, object], status: int, code: str | None
) -> None:
    async with served.client.post(EVENTS, json=event, headers=served.headers()) as answer:
        assert (answer.status, (await answer.json()).get("code")) == (status, code)


@pytest.mark.parametrize(
    ("failure", "status", "code", "retry"),
    [
        (QueueFull("x"), 429, "BACKPRESSURE", "1"),
        (LogUnavailable("x"), 503, "LOG_UNAVAILABLE", "1"),
        (EventTooLarge("x"), 413, "PAYLOAD_TOO_LARGE", None),
        (RuntimeError("the password is hunter2"), 500, "INTERNAL_ERROR", None),
    ],
)
async def test_a_log_that_does_not_take_it_is_told(
    served: Served, failure: Exception, status: int, code: str, retry: str | None
) -> None:
    served.publisher.failure = failure
    async with served.client.post(EVENTS, json=builders.event(), headers=served.headers()) as answer:
        text = await answer.text()
        assert (answer.status, json.loads(text)["code"], answer.headers.get("Retry-After")) == (status, code, retry)
        assert len(json.loads(text)["trace_id"]) == 32
        assert "hunter2" not in text
        assert "Traceback" not in text
    assert b'tidegate_events_refused_total{code="%b"} 1.0' % code.encode() in await _metrics(served)


async def test_a_run_is_finalized(served: Served) -> None:
    body = {"status": "failed", "event_count": 3}
    async with served.client.post(f"/api/runs/{builders.RUN}/finalize", json=body, headers=served.headers()) as answer:
        assert (answer.status, await answer.json()) == (202, {"status": "accepted", "wal_id": "run.events/0/0"})
    record = served.publisher.published[0]
    assert CODEC.decode(record.value) == RunFinalized(
        tenant=builders.TENANT, run_id=builders.RUN, status=RunStatus.FAILED, event_count=3, finalized_at=NOW
    )
    assert headers.SEQ not in dict(record.headers)


async def test_every_fault_of_a_finalization_is_listed(served: Served) -> None:
    body = {"status": "done", "event_count": -1, "x": 1}
    async with served.client.post(f"/api/runs/{builders.RUN}/finalize/", json=body, headers=served.headers()) as answer:
        assert {fault["pointer"] for fault in (await answer.json())["errors"]} == {"/status", "/event_count", "/x"}


async def test_an_environment_is_kept_as_it_was_sent(served: Served) -> None:
    text = '{ "python" : "3.11", "threshold": 1.0 }'
    headers = served.headers(**{"Content-Type": "application/json"})
    url = f"/api/runs/{builders.RUN}/environment"
    async with served.client.put(url, data=text.encode(), headers=headers) as answer:
        assert answer.status == 202
    captured = CODEC.decode(served.publisher.published[0].value)
    assert isinstance(captured, EnvironmentCaptured)
    assert (captured.environment, captured.captured_at) == (text, NOW)


@pytest.mark.parametrize(("body", "status"), [(b"[]", 422), (b" " * (ENVIRONMENT_BYTES_MAX + 1), 413)])
async def test_an_environment_is_an_object_of_bounded_size(served: Served, body: bytes, status: int) -> None:
    headers = served.headers(**{"Content-Type": "application/json"})
    async with served.client.put(f"/api/runs/{builders.RUN}/environment", data=body, headers=headers) as answer:
        assert answer.status == status


async def _metrics(served: Served) -> bytes:
    async with served.client.get("/metrics") as answer:
        return await answer.read()


async def test_broken_framing_is_400(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    head = f"POST {EVENTS} HTTP/1.1\r\nHost: x\r\nX-API-Key: {served.keys['all']}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    await writer.drain()
    writer.write(b"zz\r\nnonsense\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
