"""Segment's protocol: which calls become which events, and what its libraries are answered."""

import base64
import gzip
import json
from typing import Any

import pytest

from gateway.errors import LogUnavailable, SlowedDown, problem_of
from gateway.events.handlers.segment import RETRY_AFTER_S_MAX, as_segment
from schemas.events.codec import EVENT_CODEC
from schemas.events.records import UserEvent
from schemas.events.rules import BATCH_EVENTS_MAX, EVENT_BYTES_MAX, REQUEST_BYTES_MAX
from schemas.ids import moment_of_uuid7
from tests.unit.gateway.conftest import Served

TRACK = {
    "type": "track",
    "messageId": "m-1",
    "userId": "auth0|5f7c",
    "anonymousId": "visitor-1",
    "event": "Order Completed",
    "timestamp": "2026-11-20T10:00:00.123Z",
    "properties": {"total": 12.5},
    "context": {"library": {"name": "analytics-python"}},
    "integrations": {"All": True},
}


def basic(key: str) -> dict[str, str]:
    """Return the header that the libraries send: the key as user name, and no password."""
    return {"Authorization": f"Basic {base64.b64encode(f'{key}:'.encode()).decode()}"}


async def post(served: Served, body: Any, *, path: str = "batch", **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, (str, bytes)) else json.dumps(body)
    sent = basic(served.keys["all"]) | {"Content-Type": "application/json"} | headers
    async with served.client.post(f"/v1/{path}", data=data, headers=sent) as answer:
        return answer.status, await answer.json(content_type=None)


async def accepted(served: Served, *calls: dict[str, Any]) -> list[UserEvent]:
    status, answer = await post(served, {"batch": calls, "sentAt": "2026-11-20T10:00:01Z", "writeKey": "k"})
    assert (status, answer["success"], answer["refused"]) == (200, True, [])
    return records(served)


def records(served: Served) -> list[UserEvent]:
    return [EVENT_CODEC.decode(record.value) for _, record in served.publisher.log]


async def test_a_track_call_is_an_event_of_its_user(served: Served) -> None:
    [event] = await accepted(served, TRACK)
    assert (event.event_id, event.source, event.type, event.name) == ("m-1", "segment", "track", "Order Completed")
    assert (event.user_id, event.anonymous_id) == ("auth0|5f7c", "visitor-1")
    assert event.occurred_at == "2026-11-20T10:00:00.123Z"
    assert event.payload == '{"total": 12.5}'
    assert json.loads(event.context or "") == {**TRACK["context"], "integrations": {"All": True}}


@pytest.mark.parametrize(
    ("call", "name", "payload", "context"),
    [
        ({"type": "identify", "traits": {"plan": "pro"}}, None, {"plan": "pro"}, None),
        ({"type": "identify", "context": {"traits": {"a": 1}}}, None, {"a": 1}, {"traits": {"a": 1}}),
        (
            {"type": "page", "name": "Home", "category": "docs", "properties": {"url": "/"}},
            "Home",
            {"url": "/"},
            {"category": "docs"},
        ),
        ({"type": "screen", "name": None, "properties": None}, None, {}, None),
        ({"type": "group", "groupId": "g-1", "traits": {"seats": 3}}, None, {"seats": 3}, {"groupId": "g-1"}),
        ({"type": "alias", "previousId": "visitor-1", "context": {}}, None, {}, {"previousId": "visitor-1"}),
    ],
)
async def test_each_type_of_call_keeps_all_that_it_has(
    served: Served, call: dict[str, Any], name: str | None, payload: object, context: object
) -> None:
    [event] = await accepted(served, {"messageId": "m-1", "userId": "u-1"} | call)
    assert (event.type, event.name, json.loads(event.payload)) == (call["type"], name, payload)
    assert (None if event.context is None else json.loads(event.context)) == context


async def test_a_call_that_is_sent_again_is_the_same_event(served: Served) -> None:
    first, again = await accepted(
        served, TRACK | {"sentAt": "2026-11-20T10:00:01Z"}, TRACK | {"sentAt": "2026-11-20T10:05:00Z"}
    )
    assert first.event_sha256 == again.event_sha256


async def test_numbers_and_empty_texts_as_ids_are_taken(served: Served) -> None:
    [event] = await accepted(served, TRACK | {"userId": 42, "anonymousId": "", "messageId": None})
    assert (event.user_id, event.anonymous_id) == ("42", None)
    assert moment_of_uuid7(event.event_id) is not None


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"type": "charge"}, "/type"),
        ({"type": None}, "/type"),
        ({"event": ""}, "/event"),
        ({"event": "x" * 256}, "/event"),
        ({"userId": True}, "/userId"),
        ({"messageId": "x" * 256}, "/messageId"),
        ({"timestamp": "yesterday"}, "/timestamp"),
        ({"context": [1]}, "/context"),
        ({"properties": "x" * EVENT_BYTES_MAX}, "/properties"),
    ],
)
async def test_one_bad_event_loses_no_other(served: Served, change: dict[str, Any], pointer: str) -> None:
    status, answer = await post(served, {"batch": [TRACK, TRACK | change, TRACK | {"messageId": "m-3"}]})
    assert (status, answer["success"]) == (200, True)
    [refusal] = answer["refused"]
    assert (refusal["index"], refusal["code"]) == (1, "VALIDATION_ERROR")
    assert [fault["pointer"] for fault in refusal["errors"]] == [pointer]
    assert [event.event_id for event in records(served)] == ["m-1", "m-3"]
    counted = {"code": "VALIDATION_ERROR"}
    assert served.telemetry.registry.get_sample_value("tidegate_events_refused_total", counted) == 1


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        "7",
        '{"batch": {}}',
        '{"batch": []}',
        '{"batch": [1,]}',
        json.dumps({"batch": [TRACK] * (BATCH_EVENTS_MAX + 1)}),
    ],
)
async def test_what_is_no_batch_is_400_in_the_form_that_libraries_read(served: Served, body: str) -> None:
    status, answer = await post(served, body)
    assert status == 400
    assert answer["code"]
    assert answer["message"] == answer["detail"]
    assert not served.publisher.log


async def test_a_packed_batch_is_taken(served: Served) -> None:
    packed = gzip.compress(json.dumps({"batch": [TRACK]}).encode())
    assert (await post(served, packed, **{"Content-Encoding": "gzip"}))[0] == 200
    assert [event.event_id for event in records(served)] == ["m-1"]
    too_much = gzip.compress(b'{"batch": []%b}' % (b" " * REQUEST_BYTES_MAX))
    for refused in (b"no gzip", too_much):
        assert (await post(served, refused, **{"Content-Encoding": "gzip"}))[0] == 400


@pytest.mark.parametrize("call_type", ["track", "identify", "page", "screen", "group", "alias"])
async def test_one_call_has_an_address_of_its_own(served: Served, call_type: str) -> None:
    call = {name: value for name, value in TRACK.items() if name != "type"}
    assert (await post(served, call, path=call_type))[0] == 200
    assert [(event.event_id, event.type) for event in records(served)] == [("m-1", call_type)]


async def test_what_is_no_call_is_refused(served: Served) -> None:
    for body in ("{", "", "{},{}", '{"event": "a"}]'):
        assert (await post(served, body, path="track"))[0] == 400
    status, answer = await post(served, {"userId": "u-1"}, path="track")
    assert (status, [refusal["errors"][0]["pointer"] for refusal in answer["refused"]]) == (200, ["/event"])
    assert (await post(served, TRACK, path="nonsense"))[0] == 404
    assert not served.publisher.log


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic",
        "Basic !",
        "Basic /w==",
        basic("tg_wrong_key")["Authorization"],
        basic("")["Authorization"],
        "Digest username=x",
    ],
)
async def test_only_a_wrong_key_is_401(served: Served, authorization: str) -> None:
    headers = {"Authorization": authorization, "Content-Type": "application/json"}
    async with served.client.post("/v1/batch", data=json.dumps({"batch": [TRACK]}), headers=headers) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert {"code", "message"} <= set(await answer.json(content_type=None))


async def test_basic_authentication_opens_no_other_door(served: Served) -> None:
    headers = basic(served.keys["all"]) | {"Content-Type": "application/json"}
    async with served.client.post("/api/v1/events", data='{"type": "a"}', headers=headers) as answer:
        assert answer.status == 401


async def test_a_batch_that_the_log_does_not_take_is_sent_again_whole(served: Served) -> None:
    served.publisher.failure = LogUnavailable("the broker is away")
    body = json.dumps({"batch": [TRACK, {"type": "charge"}]})
    headers = basic(served.keys["all"]) | {"Content-Type": "application/json"}
    async with served.client.post("/v1/batch", data=body, headers=headers) as answer:
        assert answer.status == 503
        assert 1 <= int(answer.headers["Retry-After"]) <= RETRY_AFTER_S_MAX


def test_no_library_waits_longer_than_its_own_bound() -> None:
    problem = as_segment(problem_of(SlowedDown(retry_after_s=600)))
    assert (problem.status, dict(problem.headers)["Retry-After"]) == (429, str(RETRY_AFTER_S_MAX))
