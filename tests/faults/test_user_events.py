"""kill -9 of each process while user events come in: each accepted one is stored once, in its user's order."""

import json
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from schemas.events.topics import EVENTS
from tests.faults.load import sending
from tests.support.lag import wait_until_handled
from tests.support.stack import RunningStack

STORED = """
    SELECT event_id, user_id, (payload ->> 'number')::integer, status, kafka_partition
    FROM events WHERE event_id = ANY(%s) ORDER BY kafka_partition, kafka_offset
"""


@pytest.mark.parametrize("name", ["gateway", "events", "kafka", "postgres"])
def test_a_killed_process_costs_no_user_event(stack: RunningStack, tmp_path: Path, name: str) -> None:
    ledger = tmp_path / "ledger.jsonl"
    with sending(stack, ledger, user_events=True) as load:
        pid = stack.kill(name)
        stack.wait_restarted(name, pid)
        load.wait_for()
    stack.wait_ready("events")
    wait_until_handled(stack, EVENTS)
    check_user_events(stack, ledger)


def check_user_events(stack: RunningStack, ledger: Path) -> None:
    """Demand that what was accepted is stored once and in order, and what was refused is not."""
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    by_outcome = {
        outcome: {line["event_id"] for line in lines if line["outcome"] == outcome}
        for outcome in ("ok", "fail", "info")
    }
    assert len(by_outcome["ok"]) >= 300
    with psycopg.connect(stack.addresses.postgres) as session:
        rows = session.execute(STORED, [[line["event_id"] for line in lines]]).fetchall()
        counts = Counter(event_id for event_id, *_ in rows)
        [users] = session.execute(
            "SELECT count(*) FROM event_users WHERE user_id = ANY(%s)", [list({line["user_id"] for line in lines})]
        ).fetchone() or [0]
    assert by_outcome["ok"] <= counts.keys(), "P1: lost"
    assert not by_outcome["fail"] & counts.keys(), "P4: refused, and there"
    assert set(counts.values()) <= {1}, "P2: doubled"
    assert {status for *_, status, _ in rows} == {"processed"}
    assert users == len({user_id for _, user_id, *_ in rows})
    numbers: dict[str, list[int]] = {}
    for _, user_id, number, _, partition in rows:
        numbers.setdefault(f"{user_id}/{partition}", []).append(number)
    assert all(of_user == sorted(of_user) for of_user in numbers.values()), "P3: out of order"
    assert len(numbers) == len({user_id for _, user_id, *_ in rows}), "a user has one partition"
