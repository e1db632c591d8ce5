"""CloudEvents as their own SDK sends them."""

import json
from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from schemas.events.records import key_of
from tests.unit.gateway.conftest import Served
from tests.unit.gateway.events.test_doors_over_http import records

ATTRIBUTES = {
    "id": "A 234%\u20ac",
    "source": "/shop/orders",
    "type": "com.example.order.completed",
    "subject": "auth0|5f7c",
    "time": datetime(2026, 11, 20, 10, 0, tzinfo=UTC),
    "datacontenttype": "application/json",
    "partitionkey": "order-7",
    "dataschema": "https://example.com/order.json",
}
DATA = {"total": 12.5, "lines": [{"article": "rope"}], "note": "caf\u00e9"}


@pytest.mark.parametrize("encode", [to_binary_event, to_structured_event], ids=lambda encode: encode.__name__)
async def test_what_the_sdk_sends_is_taken_whole(served: Served, encode: object) -> None:
    message = encode(CloudEvent(attributes=dict(ATTRIBUTES), data=DATA))  # type: ignore[operator]
    async with served.client.post("/events", data=message.body, headers=served.headers(**message.headers)) as answer:
        assert answer.status == 202, await answer.text()
    [record] = records(served)
    assert (record.event_id, record.source, record.type) == (ATTRIBUTES["id"], "/shop/orders", ATTRIBUTES["type"])
    assert (record.user_id, record.occurred_at) == ("auth0|5f7c", "2026-11-20T10:00:00Z")
    assert key_of(record) == b"demo/order-7"
    assert json.loads(record.payload) == DATA
    assert json.loads(record.context or "")["dataschema"] == "https://example.com/order.json"
