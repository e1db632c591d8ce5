"""User events on the running stack: from each door to the row, and everything that is said of them on the way."""

import json
import secrets
from functools import partial
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from confluent_kafka import Message, Producer
from joserfc import jwk

from deploy.local.development import TENANT
from schemas.events.codec import EVENT_CODEC
from schemas.events.records import key_of
from schemas.events.topics import USER_EVENTS
from schemas.kafka.clients import producer_config
from schemas.kafka.partitioner import partition_of
from schemas.process.telemetry import WRONG_PARTITION
from tests.faults.processes import metric
from tests.support.api import STORED_S
from tests.support.builders import direct_user_event
from tests.support.issuing import bearer, issuing
from tests.support.stack import RunningStack, wait_until
from tests.support.user_events import UserEventClient


@pytest.fixture
def client(stack: RunningStack) -> UserEventClient:
    return UserEventClient(stack)


def new_id() -> str:
    return f"e-{secrets.token_hex(8)}"


def new_user() -> str:
    return f"auth0|{secrets.token_hex(8)}"


def test_an_event_is_stored_and_shown_as_it_was_sent(client: UserEventClient, stack: RunningStack) -> None:
    event_id, user = new_id(), new_user()
    text = (
        f'{{"id":"{event_id}","type":"order_completed","name":"Order Completed","user_id":"{user}",'
        '"occurred_at":"2026-11-20T10:00:00+02:00","payload":{ "total" : 12.50, "big": 18446744073709551615 },'
        '"context":{"page":"/cart"}}'
    )
    answer = client.accepted("/api/v1/events?wait=events", text)
    assert answer["waited"] is True
    event = client.shown(event_id)
    assert event["status"] == "processed"
    assert event["payload"] == {"total": 12.5, "big": 18446744073709551615}
    assert event["properties"] == {"total": 12.5, "big": 18446744073709551615}
    assert (event["occurred_at"], event["clock"]) == ("2026-11-20T10:00:00+02:00", "stale")
    assert (event["context"], event["name"], event["authenticated"]) == ({"page": "/cart"}, "Order Completed", "key")
    assert client.settled(answer["wal_id"])["outcome"] == "stored"
    status, page = client.ask("GET", f"/api/v1/events?user_id={quote(user)}&property=total%3D12.5")
    assert (status, [each["event_id"] for each in page["events"]]) == (200, [event_id])
    shown = json.loads(stack.command("events", "show", event_id, "--json"))
    assert shown["wal_id"] == answer["wal_id"]
    listed = json.loads(stack.command("events", "list", "--user", user, "--json"))
    assert [each["event_id"] for each in listed] == [event_id]
    tailed = stack.command("tail", USER_EVENTS.name, "--from", "beginning", "--count", "1", "--json")
    assert "occurred_at" in tailed


def test_a_batch_with_one_bad_event_may_be_sent_again_as_a_whole(client: UserEventClient) -> None:
    user = new_user()
    batch: list[Any] = [{"id": new_id(), "type": "click", "user_id": user, "payload": {"n": n}} for n in range(100)]
    batch[42]["type"] = "Not A Type"
    status, first = client.ask("POST", "/api/v1/events/batch?wait=events", batch)
    assert (status, first["results"][42]["status"], first["waited"]) == (207, "rejected", True)
    batch[42]["type"] = "click"
    status, second = client.ask("POST", "/api/v1/events/batch?wait=events", batch)
    assert (status, second["waited"]) == (202, True)
    status, page = client.ask("GET", f"/api/v1/events?user_id={quote(user)}&limit=500")
    assert sorted(each["payload"]["n"] for each in page["events"]) == list(range(100))
    status, task = client.ask("GET", f"/api/v1/events/batches/{second['task_id']}")
    assert (status, task["status"], task["counts"]) == (200, "done", {"processed": 1, "duplicate": 99})
    status, task = client.ask("GET", f"/api/v1/events/batches/{first['task_id']}")
    assert (status, task["counts"]) == (200, {"processed": 99})


def test_the_first_content_of_an_id_stays(client: UserEventClient) -> None:
    event_id = new_id()
    first = client.accepted("/api/v1/events", {"id": event_id, "type": "a", "payload": 1})
    second = client.accepted("/api/v1/events", {"id": event_id, "type": "a", "payload": 2})
    again = client.accepted("/api/v1/events?wait=events", {"id": event_id, "type": "a", "payload": 1})
    assert client.settled(second["wal_id"])["reason"] == "conflict"
    effect = client.settled(again["wal_id"])
    assert (effect["outcome"], effect["in_place_of"]) == ("duplicate", first["wal_id"])
    assert client.shown(event_id)["payload"] == 1


def test_events_of_one_user_are_stored_in_the_order_in_which_they_were_sent(
    client: UserEventClient, stack: RunningStack
) -> None:
    user = new_user()
    event = {"type": "a", "user_id": user}
    sent = [client.accepted("/api/v1/events", event | {"id": new_id()})["wal_id"] for _ in range(20)]
    client.settled(sent[-1])
    assert len({wal_id.rpartition("/")[0] for wal_id in sent}) == 1
    offsets = [int(wal_id.rpartition("/")[2]) for wal_id in sent]
    assert offsets == sorted(offsets)
    with psycopg.connect(stack.addresses.postgres) as session:
        [count] = session.execute("SELECT count(*) FROM event_users WHERE user_id = %s", [user]).fetchone() or [0]
    assert count == 1


def test_the_plain_door_is_open_on_a_local_stack(stack: RunningStack) -> None:
    event_id = new_id()
    anyone = UserEventClient(stack, {})
    answer = anyone.accepted("/events", {"id": event_id, "type": "user_action", "data": {"user_id": "U123"}})
    assert answer["status"] == "accepted"
    assert anyone.ask("POST", "/api/v1/events", {"type": "a"})[0] == 401
    key = UserEventClient(stack)
    key.settled(answer["wal_id"])
    assert key.shown(event_id)["user_id"] == "U123"


@pytest.mark.parametrize("value", ["\\u0000", "1e-20000"])
def test_what_no_table_can_keep_is_refused_at_the_door(client: UserEventClient, value: str) -> None:
    payload = f'"{value}"' if value.startswith("\\") else value
    assert client.ask("POST", "/api/v1/events", f'{{"type":"a","payload":{payload}}}')[0] == 422


def test_numbers_and_texts_at_their_bounds_are_stored(client: UserEventClient) -> None:
    user = "\U0001f30a" * 255
    event = {
        "id": "\u00e9" * 255,
        "source": "\u20ac" * 255,
        "user_id": user,
        "type": "a" * 128,
        "name": "n" * 255,
        "payload": {"small": 1e-300, "large": 1.7e308, "deep": json.loads("[" * 50 + "]" * 50), "text": "x" * 90_000},
    }
    answer = client.accepted("/api/v1/events?wait=events", event)
    assert client.settled(answer["wal_id"])["outcome"] == "stored"
    text = '{"type":"a","payload":{"n":1e-9999,"m":0.' + "1" * 9_999 + "}}"
    answer = client.accepted("/api/v1/events?wait=events", text)
    assert client.settled(answer["wal_id"])["outcome"] == "stored"


def test_a_clock_that_is_wrong_is_marked_and_counted(client: UserEventClient, stack: RunningStack) -> None:
    before = {clock: _clocks(stack, clock) for clock in ("ok", "future", "stale")}
    for clock, occurred_at in (
        ("future", "2999-01-01T00:00:00Z"),
        ("stale", "2001-01-01T00:00:00+02:00"),
        ("ok", None),
    ):
        event = {"id": new_id(), "type": "a"} | ({} if occurred_at is None else {"occurred_at": occurred_at})
        client.accepted("/api/v1/events?wait=events", event)
        with psycopg.connect(stack.addresses.postgres) as session:
            found = session.execute(
                "SELECT clock, occurred_at FROM events WHERE event_id = %s", [event["id"]]
            ).fetchone()
        assert found == (clock, occurred_at)
        assert _clocks(stack, clock) == before[clock] + 1


def _clocks(stack: RunningStack, clock: str) -> float:
    return metric(stack.addresses.management["events"], "tidegate_user_events_clock_total", clock=clock)


def test_a_direct_record_is_rejected_where_its_tenant_takes_none(client: UserEventClient, stack: RunningStack) -> None:
    event = direct_user_event(new_id(), tenant=TENANT)
    reports: list[Message] = []
    producer = Producer(producer_config(stack.kafka, client_id="test"))
    producer.produce(
        USER_EVENTS.name,
        EVENT_CODEC.encode(event),
        key_of(event),
        on_delivery=lambda _error, message: reports.append(message),
    )
    assert producer.flush(STORED_S) == 0
    place = f"{USER_EVENTS.name}/{reports[0].partition()}/{reports[0].offset()}"
    effect = client.settled(place)
    assert (effect["outcome"], effect["reason"]) == ("rejected", "unsigned_direct")


def test_a_direct_record_in_the_wrong_partition_is_counted(stack: RunningStack) -> None:
    counted = partial(metric, stack.addresses.management["events"], WRONG_PARTITION.name)
    before, event = counted(), direct_user_event(new_id(), tenant=TENANT)
    producer = Producer(producer_config(stack.kafka, client_id="test"))
    topic = producer.list_topics(USER_EVENTS.name, timeout=STORED_S).topics[USER_EVENTS.name]
    wrong = (partition_of(key_of(event), len(topic.partitions)) + 1) % len(topic.partitions)
    producer.produce(USER_EVENTS.name, EVENT_CODEC.encode(event), key_of(event), partition=wrong)
    assert producer.flush(STORED_S) == 0
    wait_until(lambda: counted() == before + 1, timeout_s=STORED_S, what="the record to be counted")
    done = stack.attempt("doctor")
    assert "in another partition than their key's" in done.stdout
    stack.command("restart", "events")  # other tests ask the doctor


def test_users_send_and_read_their_own_events_by_their_tokens(stack: RunningStack, client: UserEventClient) -> None:
    key = jwk.RSAKey.generate_key(2048, {"kid": "k1"})
    users = [new_user(), new_user()]
    with issuing(stack, key):
        first, second = (UserEventClient(stack, bearer(key, user)) for user in users)
        wait_until(lambda: first.ask("GET", "/api/v1/events")[0] == 200, timeout_s=STORED_S, what="the keys to be read")
        answer = first.accepted("/api/v1/events?wait=events", {"id": "mine", "type": "a"})
        second.accepted("/api/v1/events?wait=events", {"id": "mine", "type": "a", "payload": 2})
        planted = client.accepted("/api/v1/events?wait=events", {"id": "planted", "type": "a", "user_id": users[0]})
        assert [each["event_id"] for each in first.ask("GET", "/api/v1/events")[1]["events"]] == ["planted", "mine"]
        assert second.ask("GET", f"/api/v1/events/{'planted'}")[0] == 404
        assert first.shown("mine")["authenticated"] == "token"
        assert first.ask("GET", "/api/runs")[0] == 403
        assert first.ask("POST", "/api/v1/events", {"type": "a", "user_id": users[1]})[0] == 403
        assert client.settled(answer["wal_id"])["outcome"] == client.settled(planted["wal_id"])["outcome"] == "stored"
        checked = json.loads(
            stack.command("issuers", "check", bearer(key, users[0])["Authorization"].split()[1], "--json")
        )
        assert (checked["valid"], checked["subject"]) == (True, users[0])
        wrong = stack.attempt("issuers", "check", "a.b.c")
        assert wrong.returncode == 1
    assert first.ask("GET", "/api/v1/events")[0] == 401
    for name in ("gateway", "events"):
        assert bearer(key, users[0])["Authorization"][7:40] not in stack.log(name)
