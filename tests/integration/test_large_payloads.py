"""Payloads around and far over 102,400 bytes on the running stack: through object storage and back."""

import json
import secrets
from typing import Any

import psycopg
import pytest

from deploy.local.development import TENANT
from deploy.local.folders import OBJECTS
from schemas.objects.references import INLINE_BYTES_MAX
from schemas.runs.topics import RUN_EVENTS
from tests.integration.test_gateway import STORED_TIMEOUT_S, Client, new_run
from tests.support.log import ends
from tests.support.stack import RunningStack, wait_until

STORED = """
    SELECT payload IS NOT NULL AS whole, (payload_ref ->> 'size_bytes')::bigint AS size_bytes, payload_ref ->> 'key'
    FROM trace_events WHERE run_id = %s ORDER BY seq
"""


def payload(size_bytes: int) -> str:
    """JSON of so many bytes, with numbers and blanks that a decoder would change."""
    frame = '{{ "price" : 1.00, "big": 18446744073709551615, "e":1E5, "text":"caf\\u00e9 é{}" }}'
    return frame.format("x" * (size_bytes - len(frame.format("").encode())))


def body(run_id: str, seq: int, content: str) -> str:
    meta = json.dumps({"run_id": run_id, "agent_id": "plain-agent"})
    return f'{{"seq":{seq},"t":"2025-12-05T10:00:00Z","actor":"tool","type":"a","payload":{content},"meta":{meta}}}'


@pytest.fixture
def client(stack: RunningStack) -> Client:
    return Client(stack)


def test_payloads_of_every_size_come_back_byte_for_byte(
    stack: RunningStack, client: Client, database: psycopg.Connection[Any]
) -> None:
    """At the bound in the log and in the row, over it in object storage; the trace record knows their bytes."""
    sizes = (INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 5 * 1024 * 1024)
    run_id, contents = new_run(), [payload(size) for size in sizes]
    run = f"/api/runs/{run_id}"
    for seq, content in enumerate(contents, 1):
        status, accepted = client.ask("POST", f"{run}/events", body(run_id, seq, content).encode())
        assert (status, accepted["status"]) == (202, "accepted")
    assert client.ask("POST", f"{run}/finalize", '{"status":"succeeded","event_count":3}')[0] == 202
    wait_until(lambda: client.ask("GET", f"{run}/trace")[0] == 200, timeout_s=STORED_TIMEOUT_S, what="the trace record")
    rows = database.execute(STORED, (run_id,)).fetchall()
    assert [row[:2] for row in rows] == [(True, None), (False, sizes[1]), (False, sizes[2])]
    kept = [stack.folder / OBJECTS / row[2] for row in rows[1:]]
    assert [path.read_bytes() for path in kept] == [content.encode() for content in contents[1:]]
    assert {path.parent for path in kept} == {stack.folder / OBJECTS / TENANT / run_id}
    text = client.text(f"{run}/events?resolve=true")
    assert all(f'"payload":{content},' in text for content in contents)
    plain = client.ask("GET", f"{run}/events")[1]["events"]
    assert [event["payload"] is None for event in plain] == [False, True, True]
    trace = client.ask("GET", f"{run}/trace")[1]
    assert (trace["payload_bytes"], trace["payloads_unread"], trace["complete"]) == (sum(sizes), 2, True)


def test_without_object_storage_nothing_is_in_the_log_and_a_retry_is_accepted_once(
    stack: RunningStack, client: Client
) -> None:
    run_id = new_run()
    events, sent = f"/api/runs/{run_id}/events", body(run_id, 1, payload(5 * 1024 * 1024)).encode()
    in_the_way = stack.folder / OBJECTS / TENANT / run_id
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.write_text("no folder")
    before = ends(stack, RUN_EVENTS)
    status, problem = client.ask("POST", events, sent)
    assert (status, problem["code"]) == (503, "STORE_UNAVAILABLE")
    assert ends(stack, RUN_EVENTS) == before
    in_the_way.unlink()
    assert [client.ask("POST", events, sent)[1]["status"] for _ in range(2)] == ["accepted", "duplicate"]
    assert sum(ends(stack, RUN_EVENTS).values()) == sum(before.values()) + 1


def test_a_lost_object_is_told_and_the_rest_of_the_page_shown(stack: RunningStack, client: Client) -> None:
    run_id = new_run()
    events = f"/api/runs/{run_id}/events"
    for seq, content in enumerate([payload(INLINE_BYTES_MAX + 1), f'"{secrets.token_hex(8)}"'], 1):
        assert client.ask("POST", events, body(run_id, seq, content).encode())[0] == 202
    run = f"/api/runs/{run_id}"
    wait_until(
        lambda: client.ask("GET", run)[1].get("event_count") == 2, timeout_s=STORED_TIMEOUT_S, what="both to be stored"
    )
    (kept,) = (stack.folder / OBJECTS / TENANT / run_id).iterdir()
    kept.unlink()
    status, page = client.ask("GET", f"{events}?resolve=true")
    lost, whole = page["events"]
    assert (status, lost["payload"], lost["payload_problem"]) == (200, None, "missing")
    assert "payload_problem" not in whole
