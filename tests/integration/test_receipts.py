"""Receipts on the running stack: what became of a record, told truly in each state that it can be in."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from confluent_kafka import Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.kafka.clients import producer_config
from schemas.runs.records import RunFinalized, RunStatus
from tests.faults.records import write_as_a_gateway
from tests.support import builders
from tests.support.stack import RunningStack, wait_until

PERSISTED_S = 30
WAIT_MAX_S = 10.0


class Client:
    """Asks the gateway at *address*, with the key of the stack's tenant."""

    def __init__(self, stack: RunningStack, address: str = "") -> None:
        self._address = urlsplit(address or stack.addresses.gateway)
        self._key = stack.addresses.api_key

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        connection = HTTPConnection(self._address.hostname or "", self._address.port, timeout=30)
        headers = {"X-API-Key": self._key, "Content-Type": "application/json"}
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text)

    def send(self, event: dict[str, Any], query: str = "") -> dict[str, Any]:
        """Send *event*; the answer."""
        status, answer = self.ask("POST", f"/api/runs/{event['meta']['run_id']}/events{query}", event)
        assert status == 202, answer
        return answer

    def receipt(self, wal_id: str) -> dict[str, Any]:
        """Return the receipt, persistence's part under `group`."""
        status, receipt = self.ask("GET", f"/api/wal/{wal_id}")
        assert status == 200, receipt.get("detail")
        [group] = [each for each in receipt["groups"] if each["group"] == "persistence"]
        return receipt | {"group": group}

    def settled(self, wal_id: str) -> dict[str, Any]:
        """Return what persistence made of the record, once every group is done with it."""

        def is_done() -> bool:
            return all(group["state"] == "done" for group in self.receipt(wal_id)["groups"])

        wait_until(is_done, timeout_s=PERSISTED_S, what=f"{wal_id} to be done")
        return self.receipt(wal_id)["group"]["effect"]


def new_event(seq: int = 1, **changes: Any) -> dict[str, Any]:
    return builders.event(seq, run_id=f"run-{secrets.token_hex(8)}", **changes)


def produce(stack: RunningStack, value: bytes, headers: list[tuple[str, str | bytes]], *, key: bytes = b"k") -> str:
    """Write a record past the gateway; its wal_id."""
    reports: list[Message] = []
    producer = Producer(producer_config(stack.kafka, client_id="test"))
    producer.produce(
        builders.TOPIC, value, key=key, headers=headers, on_delivery=lambda _error, message: reports.append(message)
    )
    assert producer.flush(PERSISTED_S) == 0
    return f"{builders.TOPIC}/{reports[0].partition()}/{reports[0].offset()}"


def expire(stack: RunningStack, wal_id: str) -> None:
    """Delete the partition's records up to this one, as retention would."""
    topic, partition, offset = wal_id.split("/")
    admin = AdminClient({"bootstrap.servers": stack.addresses.kafka})
    for deleted in admin.delete_records([TopicPartition(topic, int(partition), int(offset) + 1)]).values():
        deleted.result(PERSISTED_S)


@contextmanager
def stopped(stack: RunningStack, name: str) -> Iterator[None]:
    pid = stack.kill(name, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def gateway_without_postgres(stack: RunningStack) -> Iterator[Client]:
    """Yield a second gateway on the same log, to which Postgres is away."""
    settings = json.loads((stack.folder / "settings.json").read_text())["gateway"]
    port, management, nowhere = free_ports()
    more = {
        "TIDEGATE_GATEWAY_PORT": str(port),
        "TIDEGATE_MANAGEMENT_PORT": str(management),
        "TIDEGATE_POSTGRES": f"postgresql://nobody@127.0.0.1:{nowhere}/none",
    }
    process = subprocess.Popen([sys.executable, "-m", "gateway"], env=os.environ | settings | more)
    try:
        client = Client(stack, f"http://127.0.0.1:{port}")
        wait_until(lambda: is_serving(client), timeout_s=PERSISTED_S, what="the second gateway")
        yield client
    finally:
        process.terminate()
        assert process.wait(PERSISTED_S) == 0


def free_ports() -> list[int]:
    """Three ports that nobody listens on."""
    with socket.socket() as first, socket.socket() as second, socket.socket() as third:
        for each in (first, second, third):
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in (first, second, third)]


def is_serving(client: Client) -> bool:
    try:
        return client.ask("GET", "/readyz")[0] == 200
    except ConnectionError:
        return False


def test_a_wait_reads_its_own_write_and_the_receipt_says_stored(stack: RunningStack) -> None:
    client, event = Client(stack), new_event()
    answer = client.send(event, "?wait=persistence")
    assert answer["waited"] is True
    run = f"/api/runs/{event['meta']['run_id']}"
    assert client.ask("GET", run)[1]["event_count"] == 1
    receipt = client.receipt(answer["wal_id"])
    assert (receipt["log"]["state"], receipt["record"]["run_id"], receipt["record"]["seq"]) == (
        "present",
        event["meta"]["run_id"],
        1,
    )
    assert (receipt["group"]["state"], receipt["group"]["effect"]["outcome"]) == ("done", "stored")
    for method, path, body in (
        ("PUT", f"{run}/environment", {"python": "3.11"}),
        ("PUT", f"{run}/environment", {"python": "3.12"}),
        ("POST", f"{run}/finalize", {"status": "succeeded"}),
        ("POST", f"{run}/finalize", {"status": "succeeded"}),
    ):
        assert client.ask(method, f"{path}?wait=persistence", body)[1]["waited"] is True


def test_every_kind_of_record_has_its_outcome(stack: RunningStack) -> None:
    """Each second one of a kind is told with the place that counts instead, or the reason."""
    client, event = Client(stack), new_event()
    run_id = event["meta"]["run_id"]
    run = f"/api/runs/{run_id}"
    first = client.send(event)["wal_id"]
    old, new = (client.ask("PUT", f"{run}/environment", {"python": each})[1]["wal_id"] for each in ("3.11", "3.12"))
    closed = client.ask("POST", f"{run}/finalize", {"status": "succeeded"})[1]["wal_id"]
    # A gateway that knows the run turns these away; one that knows nothing of it does not.
    closing = RunFinalized(
        tenant=builders.TENANT, run_id=run_id, status=RunStatus.SUCCEEDED, finalized_at=datetime.now(UTC)
    )
    again, other, late, closed_again = write_as_a_gateway(
        stack,
        (builders.run_event(event), 1),
        (builders.run_event(event | {"payload": "other content"}), 1),
        (builders.run_event(event | {"seq": 2}), 2),
        (closing, "finalized"),
    )

    def told(wal_id: str) -> tuple[str, str | None]:
        effect = client.settled(wal_id)
        return effect["outcome"], effect.get("in_place_of") or effect.get("reason")

    assert told(late) == ("rejected", "run_finalized")
    assert told(first) == ("stored", None)
    assert told(again) == ("duplicate", first)
    assert told(other) == ("rejected", "conflict")
    assert told(old) == ("replaced", new)
    assert told(new) == ("stored", None)
    assert told(closed) == ("stored", None)
    assert told(closed_again) == ("duplicate", closed)


def test_while_persistence_is_stopped_a_record_waits_and_a_wait_gives_up(stack: RunningStack) -> None:
    client, event = Client(stack), new_event()
    client.send(event, "?wait=persistence")
    with stopped(stack, "persistence"):
        ahead, wal_id = (client.send(event | {"seq": seq})["wal_id"] for seq in (2, 3))
        before = client.receipt(wal_id)["group"]
        assert (before["state"], before["effect"]) == ("waiting", None)
        # One partition, and nobody else sends: what is ahead of the second is at least the first.
        assert before["records_ahead"] == client.receipt(ahead)["group"]["records_ahead"] + 1
        answer = client.send(event | {"seq": 4}, "?wait=persistence")
        assert answer["waited"] is False
        after = client.receipt(wal_id)["group"]
        assert after["committed"] == before["committed"]
        assert after["waiting_s"] >= before["waiting_s"] + WAIT_MAX_S
        status = client.ask("GET", "/api/wal/status")[1]["groups"][0]
        assert status["lag_records"] >= 3
        assert status["lag_s"] >= WAIT_MAX_S
    assert client.settled(wal_id)["outcome"] == "stored"
    group = client.receipt(wal_id)["group"]
    assert group["last_progress_at"] is not None
    assert group["waiting_s"] is None


def test_a_dead_letter_is_told_with_its_reason(stack: RunningStack) -> None:
    client = Client(stack)
    letters = client.ask("GET", "/api/wal/status")[1]["groups"][0]["dead_letters"]
    wal_id = produce(stack, b"\x01garbage", [("tenant", b"demo"), ("event-id", b"evt_1")])
    effect = client.settled(wal_id)
    assert (effect["outcome"], effect["reason"]) == ("dead_lettered", "undecodable")
    assert effect["dead_letter"].startswith("run.events.persistence.dlq/0/")
    record = client.receipt(wal_id)["record"]
    assert (record["name"], record["tenant"], record["event_id"]) == (None, "demo", "evt_1")
    strangers = produce(stack, b"\x01garbage", [("tenant", b"other")])
    assert client.ask("GET", f"/api/wal/{strangers}")[0] == 404
    wait_until(
        lambda: client.ask("GET", "/api/wal/status")[1]["groups"][0]["dead_letters"] == letters + 2,
        timeout_s=PERSISTED_S,
        what="both dead letters to be counted",
    )


def test_an_expired_record_is_told_by_the_store_or_its_dead_letter(stack: RunningStack) -> None:
    """Without Postgres too, as far as the log goes; and a wait needs no Postgres of the gateway's."""
    client = Client(stack)
    stored = client.send(new_event())["wal_id"]
    dead = produce(stack, b"\x01garbage", [("tenant", b"demo")])
    strangers = produce(stack, b"\x01garbage", [("tenant", b"other")])
    # Of one key, so of one partition: when it is passed, the stranger's is.
    last = produce(stack, b"\x01garbage", [("tenant", b"demo")])
    for wal_id in (stored, dead, last):
        client.settled(wal_id)
    for wal_id in (stored, dead, strangers):
        expire(stack, wal_id)
    receipt = client.receipt(stored)
    assert (receipt["log"]["state"], receipt["record"]) == ("expired", None)
    assert receipt["group"]["effect"]["outcome"] == "stored"
    assert client.receipt(dead)["group"]["effect"]["outcome"] == "dead_lettered"
    assert client.ask("GET", f"/api/wal/{strangers}")[0] == 404
    with gateway_without_postgres(stack) as blind:
        unknown = blind.receipt(stored)["group"]
        assert (unknown["state"], unknown["effect"]["outcome"]) == ("done", "unknown")
        assert "what is stored cannot be read now" in unknown["effect"]["detail"]
        assert blind.receipt(dead)["group"]["effect"]["outcome"] == "dead_lettered"
        assert blind.send(new_event(), "?wait=persistence")["waited"] is True


def test_what_is_not_yet_written_has_no_receipt(stack: RunningStack) -> None:
    client = Client(stack)
    topic, partition, offset = client.send(new_event())["wal_id"].split("/")
    for wal_id in (f"{topic}/{partition}/{int(offset) + 1000}", f"{topic}/999/0", f"nothing/0/{offset}"):
        status, problem = client.ask("GET", f"/api/wal/{wal_id}")
        assert (status, problem["code"]) == (404, "NOT_FOUND")


def test_the_status_shows_topics_groups_and_rates(stack: RunningStack) -> None:
    client, event = Client(stack), new_event()
    client.send(event, "?wait=persistence")

    def grown() -> bool:
        client.send(event)
        topics = {each["topic"]: each for each in client.ask("GET", "/api/wal/status")[1]["topics"]}
        return (topics["run.events"]["records_per_s"] or 0) > 0

    wait_until(grown, timeout_s=PERSISTED_S, what="a rate")
    status = client.ask("GET", "/api/wal/status")[1]
    group = status["groups"][0]
    assert (group["state"], group["members"]) == ("Stable", 1)
    [topic] = [each for each in status["topics"] if each["topic"] == group["topic"]]
    assert len(topic["partitions"]) == len(group["partitions"])
    for held, passed in zip(topic["partitions"], group["partitions"], strict=True):
        assert held["first_offset"] <= held["end_offset"]
        assert passed["lag_records"] == max(0, held["end_offset"] - passed["committed"])
    assert any(each["last_progress_at"] for each in group["partitions"])
