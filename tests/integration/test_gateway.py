"""The gateway on the running stack: an event's way to the store and back, and what it does without its neighbours."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from confluent_kafka.admin import OffsetSpec

from deploy.local.services import ENGINE
from gateway.runs.store import PAGE_BYTES_MAX
from schemas.kafka import lookups
from schemas.kafka.places import Partition
from schemas.runs.signature import sign_event
from schemas.runs.topics import RUN_EVENTS
from tests.support import builders
from tests.support.stack import RunningStack, wait_until

STORED_TIMEOUT_S = 30
VERBATIM = '{ "price" : 1.00, "big": 18446744073709551615, "text":"caf\\u00e9" }'


class Client:
    """One connection a request, so that a restarted gateway is no surprise."""

    def __init__(self, stack: RunningStack) -> None:
        self._stack = stack

    def ask(self, method: str, path: str, body: str | bytes | None = None) -> tuple[int, Any]:
        addresses = self._stack.addresses
        host = urlsplit(addresses.gateway)
        connection = HTTPConnection(host.hostname or "", host.port, timeout=15)
        headers = {"X-API-Key": addresses.api_key, "Content-Type": "application/json"}
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text else None

    def text(self, path: str) -> str:
        host = urlsplit(self._stack.addresses.gateway)
        connection = HTTPConnection(host.hostname or "", host.port, timeout=15)
        connection.request("GET", path, headers={"X-API-Key": self._stack.addresses.api_key})
        text = connection.getresponse().read().decode()
        connection.close()
        return text


def new_run() -> str:
    return f"run-{secrets.token_hex(8)}"


def test_an_event_comes_back_as_it_was_sent(stack: RunningStack) -> None:
    """Through the log and Postgres, numbers and blanks untouched; the receipt is the same."""
    client, run_id = Client(stack), new_run()
    meta = json.dumps({"run_id": run_id, "agent_id": "plain-agent"})
    body = f'{{"seq":1,"t":"2025-12-05T10:00:00Z","actor":"tool","type":"a","payload":{VERBATIM},"meta":{meta}}}'
    status, accepted = client.ask("POST", f"/api/runs/{run_id}/events/", body)
    assert (status, accepted["status"], accepted["seq"]) == (202, "accepted", 1)
    events = f"/api/runs/{run_id}/events"
    wait_until(lambda: client.ask("GET", events)[0] == 200, timeout_s=STORED_TIMEOUT_S, what="the event to be stored")
    text = client.text(events)
    assert f'"payload":{VERBATIM},' in text
    assert f'"wal_id":"{accepted["wal_id"]}"' in text


def test_a_signed_run_is_listed_finalized_and_traced(stack: RunningStack) -> None:
    client, run_id = Client(stack), new_run()
    for seq in range(1, 6):
        event = builders.event(seq, run_id=run_id, meta={"agent_id": stack.addresses.agent_id})
        event["meta"]["signature"] = sign_event(event, stack.addresses.agent_secret)
        assert client.ask("POST", f"/api/runs/{run_id}/events", json.dumps(event))[0] == 202
    environment = '{"python": "3.11", "threshold": 1.0}'
    assert client.ask("PUT", f"/api/runs/{run_id}/environment", environment)[0] == 202
    assert client.ask("POST", f"/api/runs/{run_id}/finalize", '{"status":"succeeded","event_count":5}')[0] == 202
    trace = f"/api/runs/{run_id}/trace"
    wait_until(lambda: client.ask("GET", trace)[0] == 200, timeout_s=STORED_TIMEOUT_S, what="the trace record")
    run = client.ask("GET", f"/api/runs/{run_id}")[1]
    assert (run["status"], run["event_count"], run["declared_event_count"]) == ("succeeded", 5, 5)
    assert f'"environment":{environment},' in client.text(f"/api/runs/{run_id}/environment")
    listed = client.ask("GET", f"/api/runs?agent={stack.addresses.agent_id}&status=succeeded&limit=500")[1]["runs"]
    assert run_id in [one["run_id"] for one in listed]
    seen, path = [], f"/api/runs/{run_id}/events?limit=2"
    while path:
        page = client.ask("GET", path)[1]
        seen += [event["seq"] for event in page["events"]]
        cursor = page["next_cursor"]
        path = f"/api/runs/{run_id}/events?limit=2&cursor={cursor}" if cursor else ""
    assert seen == [1, 2, 3, 4, 5]


def test_rows_are_paged_by_their_size(stack: RunningStack) -> None:
    """A page of large rows is never held whole; the connection serves the next page."""
    client, run_id = Client(stack), new_run()
    events = [builders.event(seq, run_id=run_id, payload="x" * 100_000) for seq in range(1, 101)]
    assert client.ask("POST", f"/api/runs/{run_id}/events/batch?wait=persistence", json.dumps(events))[0] == 202
    first = client.ask("GET", f"/api/runs/{run_id}/events?limit=500")[1]
    last = client.ask("GET", f"/api/runs/{run_id}/events?limit=500&cursor={first['next_cursor']}")[1]
    assert PAGE_BYTES_MAX < sum(len(event["payload"]) for event in first["events"]) < PAGE_BYTES_MAX + 200_000
    assert [event["seq"] for event in [*first["events"], *last["events"]]] == list(range(1, 101))


def test_large_payloads_are_paged_by_their_size(stack: RunningStack) -> None:
    """Wherever they are kept: what is resolved is bounded as well."""
    client, run_id = Client(stack), new_run()
    for seq in range(1, 5):
        event = builders.event(seq, run_id=run_id, payload="x" * 5_000_000)
        assert client.ask("POST", f"/api/runs/{run_id}/events", json.dumps(event))[0] == 202
    run = f"/api/runs/{run_id}"
    wait_until(
        lambda: client.ask("GET", run)[1].get("event_count") == 4, timeout_s=STORED_TIMEOUT_S, what="four events"
    )
    page = client.ask("GET", f"{run}/events?resolve=true")[1]
    assert [event["seq"] for event in page["events"]] == [1, 2]
    last = client.ask("GET", f"{run}/events?resolve=true&cursor={page['next_cursor']}")[1]
    assert [event["seq"] for event in last["events"]] == [3, 4]
    assert {len(event["payload"]) for event in [*page["events"], *last["events"]]} == {5_000_000}


def test_without_postgres_events_are_taken_and_reads_are_503(stack: RunningStack) -> None:
    client, run_id = Client(stack), new_run()
    pid = stack.kill("postgres", signal.SIGKILL)
    status, answer = client.ask("GET", "/api/runs")
    assert status == 200 or answer["code"] == "STORE_UNAVAILABLE"  # 200: the supervisor was faster than this test
    assert client.ask("POST", f"/api/runs/{run_id}/events", json.dumps(builders.event(run_id=run_id)))[0] == 202
    assert client.ask("GET", "/readyz")[0] == 200
    stack.wait_restarted("postgres", pid)
    wait_until(
        lambda: client.ask("GET", f"/api/runs/{run_id}")[0] == 200, timeout_s=STORED_TIMEOUT_S, what="the event stored"
    )


def test_without_kafka_events_are_refused_at_once_and_taken_again_later(stack: RunningStack) -> None:
    client, run_id = Client(stack), new_run()
    path, body = f"/api/runs/{run_id}/events", json.dumps(builders.event(run_id=run_id))
    admin = lookups.admin_client(stack.kafka)
    place = Partition(RUN_EVENTS.name, 0)
    ends = partial(lookups.offsets, admin, [place], OffsetSpec.latest(), timeout_s=10)
    assert place in ends()
    pid = stack.kill("kafka", signal.SIGKILL)
    wait_until(lambda: client.ask("GET", "/readyz")[0] == 503, timeout_s=10, what="the gateway to see it")
    status, answer = client.ask("POST", path, body)
    assert status == 202 or answer["code"] == "LOG_UNAVAILABLE"  # 202: the supervisor was faster than this test
    stack.wait_restarted("kafka", pid)
    stack.wait_ready("gateway")
    assert client.ask("POST", path, body)[0] == 202
    # Regression: a client that was idle meanwhile sent an outdated leader epoch for minutes.
    assert place in ends()
    wait_until(lambda: client.ask("GET", "/api/wal/status")[0] == 200, timeout_s=30, what="the log's status")


def test_sigterm_loses_no_answer_and_no_secret_is_logged(stack: RunningStack) -> None:
    pid = stack.kill("gateway", signal.SIGTERM)
    stack.wait_restarted("gateway", pid)
    log = Path(stack.process("gateway").log).read_text()
    assert '"event": "stopped"' in log
    assert stack.addresses.api_key not in log
    assert stack.addresses.agent_secret not in log


def test_every_port_answers_a_client_that_closes_its_writing_side(stack: RunningStack) -> None:
    """The API, its streams, and each process's management port: the whole request, then FIN, as `nc -N` sends it."""
    addresses = stack.addresses
    assert addresses.websocket
    key = f"X-API-Key: {addresses.api_key}"
    run_id = new_run()
    body = json.dumps(builders.event(run_id=run_id))
    head = f"POST /api/runs/{run_id}/events HTTP/1.1\r\nHost: x\r\n{key}\r\nContent-Type: application/json\r\n"
    asked = [
        (addresses.gateway, f"{head}Content-Length: {len(body)}\r\n\r\n{body}", b" 202 "),
        (addresses.websocket, f"POST /ws-tickets HTTP/1.1\r\nHost: x\r\n{key}\r\n\r\n", b" 200 "),
        *(
            (url, "HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n", b" 200 ")
            for name, url in addresses.management.items()
            if name != ENGINE  # an example of what others run
        ),
    ]
    for url, request, status in asked:
        place = urlsplit(url)
        with socket.create_connection((place.hostname or "", place.port or 0), timeout=30) as client:
            client.sendall(request.encode())
            client.shutdown(socket.SHUT_WR)
            answered = b"".join(iter(lambda client=client: client.recv(65536), b""))
        assert status in answered[:20], url


def test_it_does_not_start_without_what_it_needs(stack: RunningStack) -> None:
    """One line says what to do, and the exit code that it is the configuration."""
    settings = json.loads((stack.folder / "settings.json").read_text())["gateway"]
    environ = {**os.environ, **settings, "TIDEGATE_GATEWAY_PORT": "0", "TIDEGATE_MANAGEMENT_PORT": "0"}
    for change, said in (
        ({"TIDEGATE_KAFKA": ""}, "TIDEGATE_KAFKA is missing"),
        ({"TIDEGATE_CREDENTIALS": "/nowhere"}, "/nowhere: No such file"),
        ({"TIDEGATE_LOG_LEVEL": "loud"}, "TIDEGATE_LOG_LEVEL='loud'"),
        ({"TIDEGATE_KEEP_ALIVE_S": "-1"}, "TIDEGATE_KEEP_ALIVE_S=-1 is too small"),
        ({"TIDEGATE_OBJECTS": "gs://bucket"}, "TIDEGATE_OBJECTS: gs://bucket is neither"),
        ({"TIDEGATE_GATEWAY_HOST": "192.0.2.1"}, "cannot listen on 192.0.2.1"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "gateway"],
            env={**environ, **change},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 78
        last = json.loads(done.stderr.splitlines()[-1])
        assert (last["event"], last["level"]) == ("not started", "critical")
        assert said in last["error"]
        assert "Traceback" not in done.stderr
