"""The doors of user events: what each takes, how it answers, and what stands in the log then."""

import base64
import hashlib
import json
from typing import Any

import pytest

from gateway.errors import LogUnavailable, QueueFull
from schemas.canonical import canonical
from schemas.events.codec import EVENT_CODEC
from schemas.events.records import Authenticated, UserEvent, content_of, key_of
from schemas.events.rules import BATCH_EVENTS_MAX, EVENT_BYTES_MAX
from schemas.ids import moment_of_uuid7
from tests.support import builders
from tests.unit.gateway.conftest import NOW, Served

EVENT = {"id": "e-1", "type": "order_completed", "user_id": "u-1", "payload": {"total": 12.50, "note": "caf\u00e9"}}


async def post(served: Served, path: str, body: Any, *, key: str = "all", **headers: str) -> tuple[int, Any]:
    text = body if isinstance(body, (str, bytes)) else json.dumps(body)
    sent = {"Content-Type": "application/json"} | headers
    async with served.client.post(path, data=text, headers=served.headers(key, **sent)) as answer:
        return answer.status, await answer.json(content_type=None)


def records(served: Served) -> list[UserEvent]:
    return [EVENT_CODEC.decode(record.value) for _, record in served.publisher.log]


async def test_an_event_is_in_the_log_as_it_was_sent(served: Served) -> None:
    text = '{"id":"e-1","type":"order_completed","name":"Order Completed","user_id":"u-1","payload":{ "n" : 1.00 }}'
    status, answer = await post(served, "/api/v1/events", text)
    assert status == 202, answer
    assert answer["event_id"] == "e-1"
    assert answer["status"] == "accepted"
    assert answer["wal_id"].startswith("user.events/")
    assert moment_of_uuid7(answer["task_id"]) == NOW.replace(microsecond=NOW.microsecond // 1000 * 1000)
    [record], [(_, raw)] = records(served), served.publisher.log
    assert record.payload == '{ "n" : 1.00 }'
    assert (record.tenant, record.source, record.name) == (builders.TENANT, "api", "Order Completed")
    assert (record.authenticated, record.user_verified, record.task_id) == (Authenticated.KEY, True, answer["task_id"])
    assert raw.key == key_of(record) == b"demo/u-1"
    content = content_of(record, payload={"n": 1.00}, context=None)
    assert record.event_sha256 == hashlib.sha256(canonical(content)).digest()


async def test_a_key_without_the_right_for_users_plants_nothing_in_their_lists(served: Served) -> None:
    assert (await post(served, "/api/v1/events", EVENT, key="writer"))[0] == 202
    [record] = records(served)
    assert not record.user_verified


@pytest.mark.parametrize("path", ["/api/v1/events", "/events"])
async def test_an_event_without_an_id_gets_one(served: Served, path: str) -> None:
    status, answer = await post(served, path, {"type": "page_view"})
    assert status == 202
    [record] = records(served)
    assert moment_of_uuid7(record.event_id) is not None
    assert answer.get("event_id", answer.get("id")) == record.event_id
    assert record.payload == "{}"
    assert key_of(record) == record.event_id.encode()


async def test_older_names_of_fields_are_taken(served: Served) -> None:
    given = {"event_id": "e-1", "event_type": "click", "timestamp": "2026-11-20T10:00:00+02:00", "payload": [1]}
    assert (await post(served, "/api/v1/events", given))[0] == 202
    [record] = records(served)
    assert (record.event_id, record.type, record.occurred_at) == ("e-1", "click", "2026-11-20T10:00:00+02:00")


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"type": "Order Completed"}, "/type"),
        ({"type": None}, "/type"),
        ({"name": "a\nb"}, "/name"),
        ({"user_id": ""}, "/user_id"),
        ({"user_id": 7}, "/user_id"),
        ({"user_id": "x" * 256}, "/user_id"),
        ({"occurred_at": "yesterday"}, "/occurred_at"),
        ({"run_id": "a/b"}, "/run_id"),
        ({"context": [1]}, "/context"),
        ({"nonsense": 1}, "/nonsense"),
        ({"event_id": "e-2"}, "/event_id"),
        ({"payload": "x" * EVENT_BYTES_MAX}, "/payload"),
        ({"payload": "\0"}, "/payload"),
    ],
)
async def test_every_fault_is_named(served: Served, changes: dict[str, Any], pointer: str) -> None:
    status, answer = await post(served, "/api/v1/events", EVENT | changes)
    assert status == 422, answer
    assert pointer in [fault["pointer"] for fault in answer["errors"]]
    assert not served.publisher.log


@pytest.mark.parametrize("number", ["1e-10001", "0." + "1" * 10_001, "1e-99999999999999999999"])
async def test_numbers_that_jsonb_cannot_hold_are_refused(served: Served, number: str) -> None:
    status, answer = await post(served, "/api/v1/events", f'{{"type":"a","payload":{{"n":{number}}}}}')
    assert (status, answer["errors"][0]["pointer"]) == (422, "/payload")
    said = f'{{"type":"a","payload":{{"text":"{number}"}}}}'
    assert (await post(served, "/api/v1/events", said))[0] == 202, "within a string it is not a number"


async def test_a_batch_with_one_bad_event_takes_the_others_in_order(served: Served) -> None:
    batch = [EVENT | {"id": f"e-{number}"} for number in range(BATCH_EVENTS_MAX)]
    batch[50] = {"id": "e-50", "type": "No Type"}
    status, answer = await post(served, "/api/v1/events/batch", batch)
    assert status == 207
    results = answer["results"]
    assert [result["status"] for result in results].count("accepted") == BATCH_EVENTS_MAX - 1
    assert (results[50]["status"], results[50]["errors"][0]["pointer"]) == ("rejected", "/type")
    assert [record.event_id for record in records(served)] == [f"e-{number}" for number in range(100) if number != 50]
    assert {record.task_id for record in records(served)} == {answer["task_id"]}


@pytest.mark.parametrize("form", ["list", "object", "lines"])
async def test_a_batch_has_several_forms(served: Served, form: str) -> None:
    batch = [EVENT, EVENT | {"id": "e-2"}]
    if form == "lines":
        text = "\n".join(json.dumps(event) for event in batch)
        status, _ = await post(served, "/api/v1/events/batch", text, **{"Content-Type": "application/x-ndjson"})
    else:
        status, _ = await post(served, "/api/v1/events/batch", batch if form == "list" else {"events": batch})
    assert status == 202
    assert [record.event_id for record in records(served)] == ["e-1", "e-2"]


@pytest.mark.parametrize("body", ["[]", "{}", '{"events": 1}', '{"more": []}', json.dumps([EVENT] * 101), "[1", "7"])
async def test_what_is_no_batch_is_refused_as_a_whole(served: Served, body: str) -> None:
    status, _ = await post(served, "/api/v1/events/batch", body)
    assert status in (400, 422)
    assert not served.publisher.log


async def test_what_the_log_does_not_take_is_to_be_sent_again(served: Served) -> None:
    served.publisher.failure = LogUnavailable("the broker is away")
    assert (await post(served, "/api/v1/events", EVENT))[0] == 503
    assert (await post(served, "/api/v1/events/batch", [EVENT, EVENT]))[0] == 503
    status, answer = await post(served, "/api/v1/events/batch", [EVENT, {"type": 1}])
    assert (status, [result["status"] for result in answer["results"]]) == (207, ["retry", "rejected"])


async def test_the_plain_door_answers_as_its_clients_know_it(served: Served) -> None:
    given = {"id": "evt-001", "type": "user_action", "data": {"user_id": "U123", "action": "click"}}
    status, answer = await post(served, "/events", given | {"timestamp": 1702261680})
    assert (status, answer["status"], answer["id"]) == (202, "accepted", "evt-001")
    [record] = records(served)
    assert (record.user_id, record.occurred_at) == ("U123", "2023-12-11T02:28:00+00:00")
    assert json.loads(record.payload) == given["data"]
    await post(served, "/events", given | {"timestamp": 1702261680000})
    assert records(served)[1].event_sha256 == record.event_sha256

    served.publisher.failure = QueueFull("too many records wait for the broker")
    async with served.client.post(
        "/events", data=json.dumps(given), headers=served.headers(**{"Content-Type": "application/json"})
    ) as refused:
        assert refused.status == 429
        assert refused.headers["Retry-After"]
        assert (await refused.json(content_type=None))["error"] == "Queue full, please retry later"


async def test_the_plain_door_says_what_is_wrong(served: Served) -> None:
    status, answer = await post(served, "/events", {"type": "A", "extra": 1})
    assert (status, bool(answer["error"])) == (422, True)
    assert [fault["pointer"] for fault in answer["errors"]] == ["/extra"]
    for timestamp in (1e300, -1e18, True, "soon"):
        assert (await post(served, "/events", {"type": "a", "timestamp": timestamp}))[0] == 422


CLOUDEVENT = {
    "specversion": "1.0",
    "id": "A234",
    "source": "/my/context",
    "type": "com.Example.someevent",
    "subject": "u-1",
    "time": "2026-04-05T17:31:00Z",
    "partitionkey": "order-7",
    "comexampleextension": "value",
    "datacontenttype": "application/json",
    "data": {"appinfoA": "abc"},
}


async def test_a_structured_cloudevent_keeps_every_attribute(served: Served) -> None:
    status, _ = await post(served, "/events", CLOUDEVENT, **{"Content-Type": "application/cloudevents+json"})
    assert status == 202
    [record] = records(served)
    assert (record.event_id, record.source, record.user_id) == ("A234", "/my/context", "u-1")
    assert (record.type, record.name) == ("com.example.someevent", "com.Example.someevent")
    assert (record.occurred_at, record.partition_key) == ("2026-04-05T17:31:00Z", "order-7")
    assert key_of(record) == b"demo/order-7"
    assert json.loads(record.payload) == {"appinfoA": "abc"}
    assert json.loads(record.context or "") == {
        "comexampleextension": "value",
        "datacontenttype": "application/json",
    }


async def test_a_batch_of_cloudevents_is_judged_one_by_one(served: Served) -> None:
    batch = [CLOUDEVENT, CLOUDEVENT | {"id": ""}, CLOUDEVENT | {"id": "B", "data_base64": "eA=="}]
    status, answer = await post(served, "/events", batch, **{"Content-Type": "application/cloudevents-batch+json"})
    assert status == 207
    assert [result["status"] for result in answer["results"]] == ["accepted", "rejected", "rejected"]


async def test_a_binary_cloudevent_has_its_attributes_in_headers(served: Served) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "A%20234", "ce-source": "/s", "ce-type": "a.b", "ce-x": "%E2%82%AC"}
    sent = '{"n": 1.00}'
    assert (await post(served, "/events", sent, **headers, **{"Content-Type": "application/json"}))[0] == 202
    assert (await post(served, "/events", "text", **headers, **{"Content-Type": "text/plain"}))[0] == 202
    assert (await post(served, "/events", b"\x00\xff", **headers, **{"Content-Type": "image/png"}))[0] == 202
    json_record, text_record, image_record = records(served)
    assert (json_record.event_id, json_record.payload) == ("A 234", sent)
    assert json.loads(json_record.context or "")["x"] == "\u20ac"
    assert text_record.payload == '"text"'
    assert json.loads(image_record.payload) == {"data_base64": base64.b64encode(b"\x00\xff").decode()}


@pytest.mark.parametrize("value", ["%00", "%FF%FE", "\udc80"])
async def test_headers_that_cannot_be_kept_are_refused(served: Served, value: str) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "a", "ce-x": value}
    try:
        status, _ = await post(served, "/events", "{}", **headers)
    except UnicodeEncodeError:
        return  # the client refuses first
    assert status in (202, 422)
    assert status == 202 or not served.publisher.log
