"""Dead letters sent back and parts of the log handled once more, on the real stack, through the command."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import psycopg
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.kafka import headers
from schemas.kafka.clients import producer_config
from schemas.kafka.topics import LETTER_BYTES_MAX, RECORD_BYTES_MAX
from schemas.runs.topics import PERSISTENCE, RUN_EVENTS
from tests.faults.database import slow_database
from tests.faults.records import POISON, good, new_run, produce, traces_of
from tests.support.builders import event
from tests.support.log import read_topic
from tests.support.stack import RunningStack, TidegateFailed, wait_until

WITHIN_S = 60.0
PARTITION = 3  # wherever a test writes itself
SENT_BACK_MAX = 3

# The store refuses events of one run, as it would for a fault of ours; the class (23, constraint) says poison.
REFUSE = "ALTER TABLE trace_events ADD CONSTRAINT refused CHECK (run_id <> '{}' OR seq % 2 = 0) NOT VALID"
ADMIT = "ALTER TABLE trace_events DROP CONSTRAINT refused"


@pytest.fixture
def run_id() -> str:
    return new_run()


def tidegate(stack: RunningStack, *arguments: str) -> dict[str, Any]:
    return dict(json.loads(stack.command(*arguments, "--json")))


def waiting_letters(stack: RunningStack, run_id: str) -> list[dict[str, Any]]:
    return list(tidegate(stack, "dlq", "list", "--run", run_id)["letters"])


def wait_for_letters(stack: RunningStack, run_id: str, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def are_there() -> bool:
        found[:] = waiting_letters(stack, run_id)
        return len(found) == count

    wait_until(are_there, timeout_s=WITHIN_S, what=f"{count} dead letters")
    return found


def stored(database: psycopg.Connection[Any], run_id: str) -> list[tuple[int, int]]:
    """Seq and offset of a run's events, in the order of the log."""
    query = "SELECT seq, kafka_offset FROM trace_events WHERE run_id = %s ORDER BY kafka_offset"
    return database.execute(query, (run_id,)).fetchall()


def wait_stored(database: psycopg.Connection[Any], run_id: str, count: int) -> list[tuple[int, int]]:
    wait_until(lambda: len(stored(database, run_id)) == count, timeout_s=WITHIN_S, what=f"{count} events to be stored")
    return stored(database, run_id)


@contextmanager
def refusing(database: psycopg.Connection[Any], run_id: str) -> Iterator[None]:
    """Let the store refuse every second event of a run."""
    database.execute(REFUSE.format(run_id).encode())
    try:
        yield
    finally:
        database.execute(ADMIT)


async def receipt(stack: RunningStack, wal_id: str) -> dict[str, Any]:
    """
    Return what the persistence group made of a record, as the gateway tells once it has seen the offset committed.
    """
    known = stack.addresses
    async with (
        asyncio.timeout(WITHIN_S),
        aiohttp.ClientSession(known.gateway, headers={"X-API-Key": known.api_key}) as http,
    ):
        while True:
            async with http.get(f"/api/wal/{wal_id}") as answer:
                group = (await answer.json())["groups"][0]
            if group["effect"] is not None:
                return dict(group["effect"])
            await asyncio.sleep(0.1)


async def finalize(stack: RunningStack, run_id: str) -> None:
    known = stack.addresses
    async with aiohttp.ClientSession(known.gateway, headers={"X-API-Key": known.api_key}) as http:
        path = f"/api/runs/{run_id}/finalize?wait=persistence"
        async with http.post(path, json={"status": "succeeded"}) as answer:
            assert answer.status == 202, await answer.text()


def refused_events(stack: RunningStack, database: psycopg.Connection[Any], run_id: str) -> list[dict[str, Any]]:
    """Six events of a run, of which the store took three; the dead letters of the others."""
    with refusing(database, run_id):
        produce(stack, run_id, [good(stack, run_id, seq) for seq in range(1, 7)], partition=PARTITION)
        letters = wait_for_letters(stack, run_id, 3)
    assert [seq for seq, _ in wait_stored(database, run_id, 3)] == [2, 4, 6]
    return letters


def test_dead_letters_that_are_sent_back_are_stored_once_at_their_own_places(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str
) -> None:
    letters = refused_events(stack, database, run_id)
    assert {(letter["reason"], letter["attempt"]) for letter in letters} == {("not_storable", 1)}
    assert asyncio.run(receipt(stack, letters[0]["origin"]))["outcome"] == "dead_lettered"
    counted = tidegate(stack, "dlq", "redrive", "--run", run_id, "--dry-run")
    assert (counted["redriven"], counted["would_be"]) == (0, 3)
    assert tidegate(stack, "dlq", "redrive", "--run", run_id, "--yes")["redriven"] == 3
    events = stored(database, run_id)
    first = events[0][1]
    assert events == [(seq, first + seq - 1) for seq in range(1, 7)]
    assert asyncio.run(receipt(stack, letters[0]["origin"]))["outcome"] == "stored"
    assert waiting_letters(stack, run_id) == []
    assert tidegate(stack, "dlq", "redrive", "--run", run_id, "--yes")["redriven"] == 0


def test_letters_that_were_sent_back_and_not_settled_are_sent_again_and_stored_once(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str
) -> None:
    """What an interrupted redrive leaves behind."""
    refused_events(stack, database, run_id)
    letters = [each for each in read_topic(stack, PERSISTENCE.dead_letters) if each.key() == run_id.encode()]
    producer = Producer(producer_config(stack.kafka, client_id="test"))
    for letter in letters:
        by_name: Any = letter.headers()
        producer.produce(PERSISTENCE.redrive.name, key=letter.key(), value=letter.value(), headers=by_name)
    assert producer.flush(WITHIN_S) == 0
    wait_stored(database, run_id, 6)
    assert tidegate(stack, "dlq", "redrive", "--run", run_id, "--yes")["redriven"] == 3
    assert len(stored(database, run_id)) == 6
    assert waiting_letters(stack, run_id) == []


def test_a_run_that_ended_meanwhile_takes_its_late_events_and_its_trace_is_made_again(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str
) -> None:
    with refusing(database, run_id):
        asyncio.run(send_events(stack, run_id, 4))
        wait_for_letters(stack, run_id, 2)
        asyncio.run(finalize(stack, run_id))
    trace = "SELECT event_count, document ->> 'complete' FROM trace_records WHERE run_id = %s"
    assert database.execute(trace, (run_id,)).fetchone() == (2, "false")
    tidegate(stack, "dlq", "redrive", "--run", run_id, "--yes")
    assert [seq for seq, _ in stored(database, run_id)] == [1, 2, 3, 4]
    assert database.execute(trace, (run_id,)).fetchone() == (4, "true")
    assert len(traces_of(stack, run_id)) == 2


async def send_events(stack: RunningStack, run_id: str, count: int) -> None:
    known = stack.addresses
    async with aiohttp.ClientSession(known.gateway, headers={"X-API-Key": known.api_key}) as http:
        for seq in range(1, count + 1):
            async with http.post(f"/api/runs/{run_id}/events/", json=event(seq, run_id=run_id, payload={})) as answer:
                assert answer.status == 202, await answer.text()


def test_a_letter_that_fails_again_says_how_often_and_is_sent_back_three_times_at_most(
    stack: RunningStack, run_id: str
) -> None:
    produce(stack, run_id, [POISON], partition=PARTITION)
    [letter] = wait_for_letters(stack, run_id, 1)
    for attempt in range(2, SENT_BACK_MAX + 2):
        assert tidegate(stack, "dlq", "redrive", letter["dead_letter"], "--yes")["redriven"] == 1
        origin = letter["origin"]
        [letter] = wait_for_letters(stack, run_id, 1)
        assert (letter["attempt"], letter["origin"]) == (attempt, origin)
    answer = tidegate(stack, "dlq", "redrive", "--run", run_id, "--yes")
    assert (answer["redriven"], answer["exhausted"]) == (0, 1)
    by_name = [name for name, _ in read_topic(stack, PERSISTENCE.dead_letters)[-1].headers() or []]
    assert len(by_name) == len(set(by_name))


def test_a_dead_letter_is_shown_whole_and_dropped(stack: RunningStack, run_id: str) -> None:
    produce(stack, run_id, [POISON], partition=PARTITION)
    [letter] = wait_for_letters(stack, run_id, 1)
    shown = tidegate(stack, "dlq", "show", letter["origin"])
    assert (shown["reason"], shown["hex_head"]) == ("undecodable", POISON.hex())
    assert tidegate(stack, "dlq", "drop", letter["dead_letter"], "--yes")["dropped"] == 1
    assert waiting_letters(stack, run_id) == []
    with pytest.raises(TidegateFailed, match="no dead letter"):
        stack.command("dlq", "show", letter["origin"])


def test_what_is_no_dead_letter_cannot_pass_for_one(stack: RunningStack, run_id: str) -> None:
    producer = Producer(producer_config(stack.kafka, client_id="test"))
    producer.produce(PERSISTENCE.redrive.name, key=run_id.encode(), value=good(stack, run_id, 1))
    assert producer.flush(WITHIN_S) == 0
    [letter] = wait_for_letters(stack, run_id, 1)
    assert (letter["reason"], letter["origin"]) == ("no_origin", f"{PERSISTENCE.redrive.name}/0/{place(letter)}")


def test_a_letter_that_claims_the_place_of_another_event_stops_nobody(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str
) -> None:
    produce(stack, run_id, [good(stack, run_id, 1)], partition=PARTITION)
    [(_, offset)] = wait_stored(database, run_id, 1)
    claims: headers.Headers = [
        (headers.ORIGINAL_TOPIC, RUN_EVENTS.name),
        (headers.ORIGINAL_PARTITION, str(PARTITION)),
        (headers.ORIGINAL_OFFSET, str(offset)),
        (headers.ATTEMPT, "1"),
    ]
    producer = Producer(producer_config(stack.kafka, client_id="test"))
    producer.produce(PERSISTENCE.redrive.name, key=run_id.encode(), value=good(stack, run_id, 2), headers=claims)
    assert producer.flush(WITHIN_S) == 0
    [letter] = wait_for_letters(stack, run_id, 1)
    assert (letter["reason"], letter["attempt"]) == ("not_storable", 2)
    assert [seq for seq, _ in stored(database, run_id)] == [1]


def test_poison_of_the_largest_size_is_dead_lettered_and_sent_back(stack: RunningStack, run_id: str) -> None:
    room = RECORD_BYTES_MAX - 1024  # for the record's own frame
    produce(stack, run_id, [b"\1" + b"x" * room], partition=PARTITION)
    [letter] = wait_for_letters(stack, run_id, 1)
    tidegate(stack, "dlq", "redrive", letter["dead_letter"], "--yes")
    [again] = wait_for_letters(stack, run_id, 1)
    assert again["attempt"] == 2
    assert LETTER_BYTES_MAX > RECORD_BYTES_MAX


def place(letter: dict[str, Any]) -> str:
    return str(letter["origin"].rpartition("/")[2])


def test_a_replay_adds_what_is_missing_and_changes_nothing_else(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str
) -> None:
    produce(stack, run_id, [good(stack, run_id, seq) for seq in range(1, 5)], partition=PARTITION)
    events = wait_stored(database, run_id, 4)
    kept = "SELECT seq, stored_at FROM trace_events WHERE run_id = %s AND seq IN (1, 3) ORDER BY seq"
    before = database.execute(kept, (run_id,)).fetchall()
    lose(database, run_id, [2, 4])
    database.execute(
        "INSERT INTO rejected_events (kafka_partition, kafka_offset, tenant_id, run_id, seq, reason, detail, value, "
        "received_at) VALUES (%s, %s, 'demo', %s, 4, 'unknown_agent', 'as it was', '', now())",
        (PARTITION, events[3][1], run_id),
    )
    answer = tidegate(stack, "replay", "persistence", "--run", run_id, "--yes")
    assert answer["outcomes"] == {"done": 2, "redelivery": 2}
    assert stored(database, run_id) == events
    assert database.execute(kept, (run_id,)).fetchall() == before
    assert counts(database, run_id) == (4, 0)


def test_a_replay_that_overwrites_writes_the_rows_again(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str
) -> None:
    asyncio.run(send_events(stack, run_id, 3))
    asyncio.run(finalize(stack, run_id))
    database.execute("UPDATE trace_events SET payload = '1' WHERE run_id = %s", (run_id,))
    tidegate(stack, "replay", "persistence", "--run", run_id, "--yes")
    payloads = "SELECT DISTINCT payload::text FROM trace_events WHERE run_id = %s"
    assert database.execute(payloads, (run_id,)).fetchall() == [("1",)]
    database.execute("UPDATE trace_records SET event_count = 0 WHERE run_id = %s", (run_id,))
    answer = tidegate(stack, "replay", "persistence", "--run", run_id, "--overwrite", "--yes")
    assert answer["outcomes"] == {"done": 3, "redelivery": 1}
    assert database.execute(payloads, (run_id,)).fetchall() == [("{}",)]
    assert counts(database, run_id) == (3, 0)
    summed = database.execute("SELECT event_count FROM trace_records WHERE run_id = %s", (run_id,)).fetchone()
    assert summed == (3,)


def test_a_replay_whose_worker_dies_goes_on_where_it_was(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str
) -> None:
    produce(stack, run_id, [good(stack, run_id, seq) for seq in range(1, 5)], partition=PARTITION)
    events = wait_stored(database, run_id, 4)
    lose(database, run_id, [1, 2, 3, 4])
    arguments = ["replay", "persistence", "--run", run_id, "--yes", "--dir", str(stack.folder)]
    with slow_database(stack):
        command = subprocess.Popen(
            [sys.executable, "-m", "deploy.cli.app", *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        wait_until(lambda: bool(children(command.pid)), timeout_s=WITHIN_S, what="the replay's worker")
        stack_pids = {process.pid for process in stack.addresses.processes}
        [worker] = children(command.pid) - stack_pids
        os.kill(worker, signal.SIGKILL)
        _, said = command.communicate(timeout=WITHIN_S)
    assert command.returncode == 1
    replay_id = said.decode().split("--resume ")[1].split("`")[0]
    tidegate(stack, "replay", "persistence", "--resume", replay_id)
    assert stored(database, run_id) == events


def test_a_range_that_has_expired_in_part_is_refused_with_its_numbers(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str
) -> None:
    produce(stack, run_id, [good(stack, run_id, seq) for seq in range(1, 4)], partition=PARTITION)
    last = wait_stored(database, run_id, 3)[-1][1]
    admin = AdminClient({"bootstrap.servers": stack.addresses.kafka})
    for deleted in admin.delete_records([TopicPartition(RUN_EVENTS.name, PARTITION, last)]).values():
        deleted.result(WITHIN_S)
    for start in (("--from-offset", str(last - 1)), ("--from-time", "2020-01-01T00:00:00Z")):
        with pytest.raises(TidegateFailed, match=f"{PARTITION} from {last} on"):
            stack.command("replay", "persistence", *start, "--dry-run")
    assert tidegate(stack, "replay", "persistence", "--from-start", "--dry-run")["records"] > 0


def lose(database: psycopg.Connection[Any], run_id: str, seqs: list[int]) -> None:
    """Delete what a restored backup would lack."""
    database.execute("DELETE FROM trace_events WHERE run_id = %s AND seq = ANY(%s)", (run_id, seqs))
    database.execute("UPDATE runs SET event_count = event_count - %s WHERE run_id = %s", (len(seqs), run_id))


def counts(database: psycopg.Connection[Any], run_id: str) -> tuple[Any, ...]:
    """Return how many events the run's row speaks of, and how many are rejected."""
    query = "SELECT event_count, (SELECT count(*) FROM rejected_events WHERE run_id = runs.run_id) FROM runs "
    return database.execute(query + "WHERE run_id = %s", (run_id,)).fetchone() or ()


def children(pid: int) -> set[int]:
    """Return the processes that a process has started."""
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return {int(child) for child in listed.split()}
