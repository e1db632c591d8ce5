"""
User events under faults: each accepted one is stored once, in its user's order, and processed or failed in the end.

What is killed, refused, sent back, replayed, and a topic that is another one than before.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple

import psycopg
import pytest

from processors.runtime.failpoints import EXIT_KILLED, Failpoint
from schemas.events.codec import EVENT_CODEC
from schemas.events.topics import EVENTS, PROCESSING, USER_EVENTS
from schemas.kafka.topics import Group
from tests.faults.cut_log import delete
from tests.faults.load import sending
from tests.faults.processes import own_process
from tests.support.lag import wait_until_handled
from tests.support.log import read_topic
from tests.support.stack import RunningStack, running, tidegate, wait_until
from tests.support.user_events import UserEventClient

USERS = 10  # of each of the two loads
SETTLED_S = 120.0
STEPS = [
    ("events", Failpoint.BEFORE_COMMIT),
    ("events", Failpoint.AFTER_COMMIT_BEFORE_OFFSET),
    ("processing", Failpoint.BEFORE_COMMIT),
    ("processing", Failpoint.AFTER_COMMIT_BEFORE_OFFSET),
    ("processing", Failpoint.BEFORE_DLQ_ACK),
]
ATTEMPTS = 1 + len(PROCESSING.tiers)

TYPES = '[types.user_action]\nfunction = "shop.actions:on_action"\n'
# A package of its own, as users write one: some events it never takes, some only at the second attempt.
FUNCTION = """
import asyncio, json, os

async def on_action(event):
    number = event.payload["number"]
    line = json.dumps([event.user_id, number, event.attempt]) + "\\n"
    calls = os.open(os.environ["SHOP_CALLS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(calls, line.encode())
    os.close(calls)
    await asyncio.sleep(0.001)
    if number % 11 == 0 and not os.path.exists(os.environ["SHOP_CALLS"].replace("calls", "mended")):
        raise ValueError(f"no action {number}")
    if number % 7 == 0 and event.attempt == 1:
        raise ConnectionError("busy")
    return {"number": number}
"""

STORED = """
    SELECT event_id, user_id, (payload ->> 'number')::integer, kafka_partition, status, attempts, error_class, result
    FROM events WHERE event_id = ANY(%s) ORDER BY kafka_partition, kafka_offset
"""


REFUSE = "ALTER TABLE events ADD CONSTRAINT refused CHECK (event_id <> '{}') NOT VALID"


class Row(NamedTuple):
    event_id: str
    user_id: str
    number: int
    partition: int
    status: str
    attempts: int
    error_class: str | None
    result: Any


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return the settings of a deployment with a function for the type that `tidegate send --events` sends."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop").mkdir()
    (folder / "shop" / "actions.py").write_text(FUNCTION)
    (folder / "types.toml").write_text(TYPES)
    return {
        "TIDEGATE_EVENT_TYPES": str(folder / "types.toml"),
        "PYTHONPATH": str(folder),
        "SHOP_CALLS": str(folder / "calls"),
    }


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, shop: Mapping[str, str]) -> Iterator[RunningStack]:
    """Yield the stack of that deployment."""
    folder = tmp_path_factory.mktemp("stack")
    try:
        with running(folder, environ=os.environ | shop) as started:
            yield started
    finally:
        tidegate("down", "--purge", "--dir", str(folder))


@pytest.mark.parametrize("names", [("gateway", "events", "processing"), ("kafka", "postgres")], ids="-".join)
def test_a_killed_process_costs_no_user_event(
    stack: RunningStack, shop: Mapping[str, str], tmp_path: Path, names: Sequence[str]
) -> None:
    ledgers = [tmp_path / "single.jsonl", tmp_path / "batches.jsonl"]
    with (
        sending(stack, ledgers[0], user_events=True, users=USERS, rate=8) as single,
        sending(stack, ledgers[1], user_events=True, users=USERS, rate=8, batch=10) as batches,
    ):
        for name in names:
            pid = stack.kill(name)
            stack.wait_restarted(name, pid)
            for load in (single, batches):
                load.wait_for(100)
    check_user_events(stack, shop, ledgers)


def test_workers_that_die_at_each_step_cost_no_user_event(
    stack: RunningStack, shop: Mapping[str, str], tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger.jsonl"
    with ExitStack() as own:
        workers = [
            own.enter_context(
                own_process(stack, tmp_path, process, environ={**shop, "TIDEGATE_FAILPOINT": f"{point}:3"})
            )
            for process, point in STEPS
        ]
        for worker in workers:
            worker.wait_ready()
        with sending(stack, ledger, user_events=True, users=USERS, rate=20) as load:
            for worker in workers:
                assert worker.wait_end() == EXIT_KILLED, worker.log
            load.wait_for()
    check_user_events(stack, shop, [ledger])


def test_an_event_that_the_store_refuses_is_processed_once_it_is_sent_back(stack: RunningStack) -> None:
    client, event_id = UserEventClient(stack), f"e-{token_hex(8)}"
    with psycopg.connect(stack.addresses.postgres, autocommit=True) as session:
        session.execute(
            f"ALTER TABLE events ADD CONSTRAINT refused CHECK (event_id <> '{event_id}') NOT VALID".encode()
        )
        try:
            place = client.accepted("/api/v1/events", _action(event_id, 1))["wal_id"]
            refused = client.settled(place)
            passed_by = client.settled(place, PROCESSING.name)
        finally:
            session.execute("ALTER TABLE events DROP CONSTRAINT refused")
    assert (refused["outcome"], refused["reason"]) == ("dead_lettered", "not_storable")
    assert (passed_by["outcome"], passed_by["reason"]) == ("dead_lettered", "row_missing")
    for group in (EVENTS, PROCESSING):
        _redrive(stack, place, group)
    assert client.settled(place)["outcome"] == "stored"
    event = client.shown(event_id)
    assert (event["status"], event["result"], event["wal_id"]) == ("processed", {"number": 1}, place)


def test_an_event_that_failed_is_processed_when_it_is_sent_back(stack: RunningStack, shop: Mapping[str, str]) -> None:
    client, event_id = UserEventClient(stack), f"e-{token_hex(8)}"
    mended = Path(shop["SHOP_CALLS"]).with_name("mended")
    place = client.accepted("/api/v1/events", _action(event_id, 11))["wal_id"]
    wait_until(lambda: client.shown(event_id)["status"] == "failed", timeout_s=SETTLED_S, what="the event to fail")
    event = client.shown(event_id)
    assert (event["attempts"], event["error_class"], event["error"]) == (ATTEMPTS, "ValueError", "no action 11")
    failed = client.settled(place, PROCESSING.name)
    assert (failed["outcome"], failed["reason"]) == ("dead_lettered", "processing_failed")
    mended.touch()
    try:
        _redrive(stack, place, PROCESSING)
        wait_until(lambda: client.shown(event_id)["status"] == "processed", timeout_s=SETTLED_S, what="its end")
    finally:
        mended.unlink()
    event = client.shown(event_id)
    assert (event["attempts"], event["error_class"], event["result"]) == (ATTEMPTS + 1, None, {"number": 11})
    assert client.settled(place, PROCESSING.name)["outcome"] == "processed"


def test_replays_store_what_is_missing_and_derive_and_call_again_where_they_overwrite(
    stack: RunningStack, shop: Mapping[str, str]
) -> None:
    client, run_id = UserEventClient(stack), f"r-{token_hex(8)}"
    kept, lost = (f"e-{token_hex(8)}" for _ in range(2))
    for number, event_id in enumerate((kept, lost), 1):
        client.accepted("/api/v1/events", _action(event_id, number) | {"run_id": run_id})
    wait_until(lambda: client.shown(lost)["status"] == "processed", timeout_s=SETTLED_S, what="both to be processed")

    def replay(group: str, *options: str) -> Any:
        answer = stack.command("replay", group, "--run", run_id, *options, "--yes", "--json", environ=os.environ | shop)
        return json.loads(answer)["outcomes"]

    with psycopg.connect(stack.addresses.postgres, autocommit=True) as session:
        session.execute("DELETE FROM events WHERE event_id = %s", [lost])
        session.execute("UPDATE events SET properties = '{}' WHERE event_id = %s", [kept])
    assert replay("events") == {"done": 1, "redelivery": 1}
    assert (client.shown(kept)["properties"], client.shown(lost)["status"]) == ({}, "pending")
    assert replay("processing") == {"done": 1, "redelivery": 1}
    assert client.shown(lost)["result"] == {"number": 2}
    assert replay("events", "--overwrite") == {"redelivery": 2}
    assert client.shown(kept)["properties"] == {"number": 1}
    assert replay("processing", "--overwrite") == {"done": 2}
    assert client.shown(kept)["attempts"] == 2


def test_an_event_whose_type_has_no_function_any_more_waits_no_longer(stack: RunningStack) -> None:
    client, event_id = UserEventClient(stack), f"e-{token_hex(8)}"
    client.accepted("/api/v1/events?wait=events", {"id": event_id, "type": "other"})
    with psycopg.connect(stack.addresses.postgres, autocommit=True) as session:
        session.execute("UPDATE events SET status = 'pending' WHERE event_id = %s", [event_id])
    pid = stack.kill("events")
    stack.wait_restarted("events", pid)
    assert client.shown(event_id)["status"] == "processed"


def test_a_topic_that_was_deleted_and_created_again_is_started_over(stack: RunningStack) -> None:
    client, before, after = UserEventClient(stack), f"e-{token_hex(8)}", f"e-{token_hex(8)}"
    place = client.accepted("/api/v1/events", _action(before, 1))["wal_id"]
    client.settled(place)
    delete(stack, USER_EVENTS.name)
    wait_until(lambda: not stack.is_ready("gateway"), timeout_s=SETTLED_S, what="the gateway to miss its topic")
    stack.attempt("topics", "create")
    event = _action(after, 2) | {"user_id": client.shown(before)["user_id"]}
    wait_until(
        lambda: client.ask("POST", "/api/v1/events", event)[0] == 202,
        timeout_s=SETTLED_S,
        what="events to be accepted into the new log",
    )
    assert json.loads(stack.command("topics", "accept", "--yes", "--json"))["topics_recreated"] == [USER_EVENTS.name]
    for name in ("gateway", "events", "processing"):
        stack.wait_ready(name)
    wait_until(lambda: client.shown(after)["status"] == "processed", timeout_s=SETTLED_S, what="the new log")
    assert client.shown(before)["wal_id"] == f"{place}/lost"


def _redrive(stack: RunningStack, place: str, group: Group) -> None:
    """Send the dead letter of *group* back that comes from *place*."""
    of_group = ("--group", group.name)

    def waits() -> bool:
        return bool(json.loads(stack.command("dlq", "list", place, *of_group, "--json"))["waiting"])

    wait_until(waits, timeout_s=SETTLED_S, what=f"the dead letter of {group.name} from {place}")
    assert json.loads(stack.command("dlq", "redrive", place, *of_group, "--yes", "--json"))["redriven"] == 1


def _action(event_id: str, number: int) -> dict[str, Any]:
    return {"id": event_id, "type": "user_action", "user_id": f"u-{event_id}", "payload": {"number": number}}


def check_user_events(stack: RunningStack, shop: Mapping[str, str], ledgers: list[Path]) -> None:
    """Demand that what was accepted is stored once, in order, and processed; and that what was refused is not there."""
    lines = [json.loads(line) for ledger in ledgers for line in ledger.read_text().splitlines()]
    by_outcome = {
        outcome: {line["event_id"] for line in lines if line["outcome"] == outcome}
        for outcome in ("ok", "fail", "info")
    }
    for name in ("events", "processing"):
        stack.wait_ready(name)
    wait_until_handled(stack, EVENTS)
    wait_until(lambda: _pending(stack) == 0, timeout_s=SETTLED_S, what="every event to be processed, or to have failed")
    rows = _rows(stack, [line["event_id"] for line in lines])
    counts = Counter(row.event_id for row in rows)
    assert by_outcome["ok"] <= counts.keys(), "P1: lost"
    assert not by_outcome["fail"] & counts.keys(), "P4: refused, and there"
    assert set(counts.values()) <= {1}, "P2: doubled"
    by_user: dict[str, list[Row]] = {}
    for row in rows:
        by_user.setdefault(row.user_id, []).append(row)
    for of_user in by_user.values():
        assert len({row.partition for row in of_user}) == 1, "a user has one partition"
        assert [row.number for row in of_user] == sorted(row.number for row in of_user), "P2: out of order"
    for row in rows:
        if row.number % 11 == 0:
            assert (row.status, row.error_class, row.result) == ("failed", "ValueError", None), row
            assert row.attempts >= ATTEMPTS, row
        else:
            assert (row.status, row.error_class, row.result) == ("processed", None, {"number": row.number}), row
    _check_calls(Path(shop["SHOP_CALLS"]), by_user)
    wait_until_handled(stack, PROCESSING)
    letters = {EVENT_CODEC.decode(each.value() or b"").event_id for each in read_topic(stack, PROCESSING.dead_letters)}
    assert {row.event_id for row in rows if row.status == "failed"} == letters & counts.keys()


def _check_calls(calls: Path, by_user: dict[str, list[Row]]) -> None:
    """Demand that the function was called for each event, first calls in the order of the user's events."""
    called: dict[str, dict[int, int]] = {}
    for line in calls.read_text().splitlines():
        user_id, number, attempt = json.loads(line)
        called.setdefault(user_id, {}).setdefault(number, attempt)
    for user_id, of_user in by_user.items():
        firsts = called[user_id]
        assert list(firsts) == [row.number for row in of_user], "P2: called out of order"
        assert set(firsts.values()) == {1}


def _pending(stack: RunningStack) -> int:
    with psycopg.connect(stack.addresses.postgres) as session:
        [count] = session.execute("SELECT count(*) FROM events WHERE status = 'pending'").fetchone() or [0]
    return int(count)


def _rows(stack: RunningStack, event_ids: list[str]) -> list[Row]:
    with psycopg.connect(stack.addresses.postgres) as session:
        return [Row(*found) for found in session.execute(STORED, [event_ids]).fetchall()]
