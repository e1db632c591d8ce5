"""User events on the running stack: from each door to the row, and everything that is said of them on the way."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import time
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import psycopg
import pytest
from confluent_kafka import Message, Producer
from joserfc import jwk

from deploy.admin import credentials as credentials_file
from deploy.local.development import CREDENTIALS, TENANT
from schemas.events.codec import EVENT_CODEC
from schemas.events.records import key_of
from schemas.events.topics import USER_EVENTS
from schemas.kafka.clients import producer_config
from tests.support import tokens
from tests.support.builders import direct_user_event
from tests.support.stack import RunningStack, wait_until

STORED_S = 30


class Client:
    """Asks the stack's gateway, with the key of its tenant or with *headers*."""

    def __init__(self, stack: RunningStack, headers: dict[str, str] | None = None) -> None:
        self._address = urlsplit(stack.addresses.gateway)
        self._headers = {"X-API-Key": stack.addresses.api_key} if headers is None else headers

    def ask(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> tuple[int, Any]:
        connection = HTTPConnection(self._address.hostname or "", self._address.port, timeout=30)
        sent = body if isinstance(body, (str, bytes)) or body is None else json.dumps(body)
        connection.request(method, path, body=sent, headers=self._headers | {"Content-Type": content_type})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text)

    def accepted(self, path: str, body: object, content_type: str = "application/json") -> dict[str, Any]:
        status, answer = self.ask("POST", path, body, content_type)
        assert status == 202, answer
        found: dict[str, Any] = answer
        return found

    def shown(self, event_id: str) -> dict[str, Any]:
        status, event = self.ask("GET", f"/api/v1/events/{quote(event_id, safe='')}")
        assert status == 200, event
        found: dict[str, Any] = event
        return found

    def settled(self, wal_id: str) -> dict[str, Any]:
        """Return what the events group made of a record, once it has committed past it."""

        def group() -> dict[str, Any]:
            status, receipt = self.ask("GET", f"/api/wal/{wal_id}")
            assert status == 200, receipt
            [found] = [each for each in receipt["groups"] if each["group"] == "events"]
            return dict(found)

        wait_until(lambda: group()["state"] == "done", timeout_s=STORED_S, what=f"{wal_id} to be done")
        effect: dict[str, Any] = group()["effect"]
        return effect


@pytest.fixture
def client(stack: RunningStack) -> Client:
    return Client(stack)


def new_id() -> str:
    return f"e-{secrets.token_hex(8)}"


def new_user() -> str:
    return f"auth0|{secrets.token_hex(8)}"


def test_an_event_is_stored_and_shown_as_it_was_sent(client: Client, stack: RunningStack) -> None:
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


def test_a_batch_with_one_bad_event_may_be_sent_again_as_a_whole(client: Client) -> None:
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


def test_the_first_content_of_an_id_stays(client: Client) -> None:
    event_id = new_id()
    first = client.accepted("/api/v1/events", {"id": event_id, "type": "a", "payload": 1})
    second = client.accepted("/api/v1/events", {"id": event_id, "type": "a", "payload": 2})
    again = client.accepted("/api/v1/events?wait=events", {"id": event_id, "type": "a", "payload": 1})
    assert client.settled(second["wal_id"])["reason"] == "conflict"
    effect = client.settled(again["wal_id"])
    assert (effect["outcome"], effect["in_place_of"]) == ("duplicate", first["wal_id"])
    assert client.shown(event_id)["payload"] == 1


def test_events_of_one_user_are_stored_in_the_order_in_which_they_were_sent(
    client: Client, stack: RunningStack
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
    anyone = Client(stack, {})
    answer = anyone.accepted("/events", {"id": event_id, "type": "user_action", "data": {"user_id": "U123"}})
    assert answer["status"] == "accepted"
    assert anyone.ask("POST", "/api/v1/events", {"type": "a"})[0] == 401
    key = Client(stack)
    key.settled(answer["wal_id"])
    assert key.shown(event_id)["user_id"] == "U123"


@pytest.mark.parametrize("value", ["\\u0000", "1e-20000"])
def test_what_no_table_can_keep_is_refused_at_the_door(client: Client, value: str) -> None:
    payload = f'"{value}"' if value.startswith("\\") else value
    assert client.ask("POST", "/api/v1/events", f'{{"type":"a","payload":{payload}}}')[0] == 422


def test_numbers_and_texts_at_their_bounds_are_stored(client: Client) -> None:
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


def test_a_direct_record_is_rejected_where_its_tenant_takes_none(client: Client, stack: RunningStack) -> None:
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


@contextmanager
def issuing(stack: RunningStack, *keys: Any) -> Iterator[dict[str, str]]:
    """Serve a JWK Set, and let the stack know its issuer; yields the text that is served, which a test may change."""
    served = {"text": tokens.jwks(*keys), "reads": ""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served["reads"] += "x"
            body = served["text"].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    path = stack.folder / CREDENTIALS
    issuer = tokens.of_address(f"http://127.0.0.1:{server.server_port}/keys", tenant=TENANT)
    before = credentials_file.read(path)
    credentials_file.change(path, lambda found: msgspec.structs.replace(found, issuers={"test": issuer}))
    try:
        yield served
    finally:
        credentials_file.change(path, lambda found: msgspec.structs.replace(found, issuers=before.issuers))
        server.shutdown()
        server.server_close()


def bearer(key: Any, user: str) -> dict[str, str]:
    now_s = int(time())
    kid = key.as_dict(private=False)["kid"]
    text = tokens.token(key, algorithm="RS256", header={"kid": kid}, sub=user, exp=now_s + 600, iat=now_s)
    return {"Authorization": f"Bearer {text}"}


def test_users_send_and_read_their_own_events_by_their_tokens(stack: RunningStack, client: Client) -> None:
    key = jwk.RSAKey.generate_key(2048, {"kid": "k1"})
    users = [new_user(), new_user()]
    with issuing(stack, key):
        first, second = (Client(stack, bearer(key, user)) for user in users)
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
