"""Records that are written past the gateway: whose they are, what is kept of them, and what their receipts say."""

import subprocess
import sys
from pathlib import Path
from secrets import token_hex
from typing import Any
from zlib import crc32

import psycopg
import pytest
from confluent_kafka import Producer

from schemas.catalogue import CODEC
from schemas.kafka import headers
from schemas.kafka.partitioner import partition_of
from schemas.process.telemetry import WRONG_PARTITION
from tests.faults.processes import metric
from tests.integration.test_integrity import integrity
from tests.integration.test_persistence import wait_for
from tests.integration.test_receipts import Client, produce
from tests.support import builders
from tests.support.stack import RunningStack, TidegateFailed, tidegate
from tests.support.tools import need

EXAMPLE_S = 60.0
STORED = "SELECT seq, kafka_partition, kafka_offset FROM trace_events WHERE run_id = %s ORDER BY seq"
REJECTED = "SELECT reason, value FROM rejected_events WHERE run_id = %s AND kafka_partition = %s AND kafka_offset = %s"


@pytest.fixture
def run_id() -> str:
    return f"direct-{token_hex(8)}"


def example(stack: RunningStack, *arguments: str) -> str:
    """Return what deploy/examples/direct_producer.py prints."""
    command = [sys.executable, "-m", "deploy.examples.direct_producer", *arguments, "--dir", str(stack.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=EXAMPLE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def signed(stack: RunningStack, seq: int, run_id: str, **changes: Any) -> dict[str, Any]:
    return builders.signed(builders.event(seq, run_id=run_id, **changes), secret=stack.addresses.agent_secret)


def framed(event: dict[str, Any], *, tenant: str = builders.TENANT) -> bytes:
    return CODEC.encode(builders.run_event(event, tenant=tenant))


def test_a_run_goes_on_in_its_partition_whoever_writes_it(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str, tmp_path: Path
) -> None:
    """The gateway, a program that shares no code with it, and kcat: one run, in the order of the log."""
    client, file = Client(stack), tmp_path / "event.avro"
    by_gateway = client.send(signed(stack, 1, run_id), "?wait=persistence")["wal_id"]
    by_program = example(stack, run_id, "2", "The tide is in.")
    example(stack, run_id, "3", "The tide is out.", "--to", str(file))
    to_kafka = ["-b", stack.addresses.kafka, "-t", builders.TOPIC, "-X", "partitioner=murmur2_random"]
    subprocess.run([need("kcat"), "-P", *to_kafka, "-k", run_id, str(file)], check=True, timeout=EXAMPLE_S)
    rows = wait_for(database, STORED, run_id, count=3)
    places = [f"{builders.TOPIC}/{partition}/{offset}" for _, partition, offset in rows]
    assert [seq for seq, _, _ in rows] == [1, 2, 3]
    assert places[:2] == [by_gateway, by_program]
    assert len({partition for _, partition, _ in rows}) == 1
    for place in places:
        assert client.settled(place)["outcome"] == "stored"
        assert client.receipt(place)["record"]["tenant"] == builders.TENANT
    shown = integrity(client, run_id)
    assert (shown["signatures"], shown["rejected"]["count"]) == ({"signed": 3, "unsigned": 0}, 0)


def test_what_breaks_a_rule_is_kept_with_its_bytes_and_its_receipt_says_why(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str
) -> None:
    client, key = Client(stack), run_id.encode()
    client.send(signed(stack, 1, run_id), "?wait=persistence")
    forged = builders.signed(builders.event(4, run_id=run_id), secret="wrong")
    written = {
        "unsigned_direct": (framed(builders.event(2, run_id=run_id)), key),
        "key_mismatch": (framed(signed(stack, 3, run_id)), b"another"),
        "signature_invalid": (framed(forged), key),
        "conflict": (framed(signed(stack, 1, run_id, payload={"text": "other content"})), key),
    }
    places = {reason: produce(stack, value, [], key=key) for reason, (value, key) in written.items()}
    for reason, place in places.items():
        effect = client.settled(place)
        assert (effect["outcome"], effect["reason"]) == ("rejected", reason)
        assert effect["detail"]
        _, partition, offset = place.split("/")
        assert database.execute(REJECTED, (run_id, partition, offset)).fetchall() == [(reason, written[reason][0])]
    shown = integrity(client, run_id)
    assert (shown["event_count"], shown["rejected"]["reasons"]) == (1, dict.fromkeys(sorted(places), 1))
    assert {each["reason"]: each["wal_id"] for each in shown["rejected"]["last"]} == places


@pytest.mark.parametrize("received_at", ["2025-12-05T10:00:00", "0001-01-01T00:00:00+14:00", "yesterday", ""])
def test_a_producers_own_received_at_stops_nobody(stack: RunningStack, run_id: str, received_at: str) -> None:
    value = framed(signed(stack, 1, run_id))
    place = produce(stack, value, [(headers.RECEIVED_AT, received_at)], key=run_id.encode())
    assert Client(stack).settled(place)["outcome"] == "stored"


def with_crc32(stack: RunningStack) -> Producer:
    """Use librdkafka as it is by default: it puts a key elsewhere than Java and our gateway do."""
    return Producer({"bootstrap.servers": stack.addresses.kafka, "partitioner": "consistent_random"})


def misplaced_run(stack: RunningStack) -> tuple[str, Producer, int, int]:
    """Return a run, a producer that uses CRC32, and the partitions of the run's key by CRC32 and by murmur2."""
    producer = with_crc32(stack)
    count = len(producer.list_topics(builders.TOPIC, timeout=30).topics[builders.TOPIC].partitions)
    while True:
        run_id = f"direct-{token_hex(8)}"
        elsewhere, home = crc32(run_id.encode()) % count, partition_of(run_id.encode(), count)
        if elsewhere != home:
            return run_id, producer, elsewhere, home


def test_a_wrong_partitioner_is_noticed_and_costs_no_event(
    stack: RunningStack, database: psycopg.Connection[Any], tmp_path: Path
) -> None:
    """The run's end comes by the gateway, in another partition: it sums up what is stored, and every reader says so."""
    client, path = Client(stack), tmp_path / "run.jsonl"
    run_id, producer, elsewhere, home = misplaced_run(stack)
    count = 60
    for seq in range(1, count + 1):
        producer.produce(builders.TOPIC, framed(signed(stack, seq, run_id)), run_id)
    assert producer.flush(30) == 0
    rows = wait_for(database, STORED, run_id, count=count)
    assert {partition for _, partition, _ in rows} == {elsewhere}
    assert client.ask("POST", f"/api/runs/{run_id}/finalize?wait=persistence", {"status": "succeeded"})[0] == 202
    late = framed(signed(stack, count + 1, run_id))
    producer.produce(builders.TOPIC, late, run_id)
    assert producer.flush(30) == 0
    [(reason,)] = wait_for(database, "SELECT reason FROM rejected_events WHERE run_id = %s", run_id, count=1)
    assert reason == "wrong_partition"

    trace, shown = client.ask("GET", f"/api/runs/{run_id}/trace")[1], integrity(client, run_id)
    assert (trace["event_count"], trace["wrong_partition"]) == (count, count)
    assert (shown["event_count"], shown["wrong_partition"], shown["complete"]) == (count, count, True)
    record = client.receipt(f"{builders.TOPIC}/{rows[0][1]}/{rows[0][2]}")["record"]
    assert (record["wrong_partition"], record["key_partition"]) == (True, home)
    assert metric(stack.addresses.management["persistence"], WRONG_PARTITION.name) >= count
    with pytest.raises(TidegateFailed, match=r"another partition than their key's(.|\n)*murmur2"):
        stack.command("doctor", "--json")
    assert f"{count} records" in stack.command("run", "show", run_id)
    stack.command("run", "export", run_id, "-o", str(path))
    tidegate("run", "verify", str(path), "--head", shown["chain_head"])

    for overwrite in ((), ("--overwrite",)):
        stack.command("replay", "persistence", "--run", run_id, *overwrite, "--yes")
        assert database.execute(STORED, (run_id,)).fetchall() == rows
    assert integrity(client, run_id)["rejected"]["count"] == 1
    assert integrity(client, run_id) | {"rejected": None} == shown | {"rejected": None}


def test_a_run_in_its_own_partition_is_not_said_to_be_elsewhere(stack: RunningStack, run_id: str) -> None:
    client = Client(stack)
    place = produce(stack, framed(signed(stack, 1, run_id)), [], key=run_id.encode())
    assert client.settled(place)["outcome"] == "stored"
    record = client.receipt(place)["record"]
    assert (record["wrong_partition"], f"/{record['key_partition']}/" in place) == (False, True)
    assert integrity(client, run_id)["wrong_partition"] == 0


def test_a_gap_is_stored_and_told(stack: RunningStack, run_id: str) -> None:
    client, key = Client(stack), run_id.encode()
    for seq in (1, 2, 5):
        place = produce(stack, framed(signed(stack, seq, run_id)), [], key=key)
    assert client.settled(place)["outcome"] == "stored"
    shown = integrity(client, run_id)
    assert (shown["event_count"], shown["complete"]) == (3, False)
    assert shown["missing"] == {"count": 2, "range_count": 1, "ranges": [[3, 4]]}


def test_a_run_of_which_all_was_rejected_says_so(stack: RunningStack, run_id: str) -> None:
    """It is in no list of runs, but whoever wrote it finds out why."""
    client = Client(stack)
    place = produce(stack, framed(builders.event(run_id=run_id)), [], key=run_id.encode())
    assert client.settled(place)["reason"] == "unsigned_direct"
    assert client.ask("GET", f"/api/runs/{run_id}")[0] == 404
    shown = integrity(client, run_id)
    assert (shown["complete"], shown["status"], shown["event_count"]) == (False, None, 0)
    assert shown["rejected"]["reasons"] == {"unsigned_direct": 1}


def test_what_claims_another_tenant_is_not_shown_to_this_one(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str
) -> None:
    client, key = Client(stack), run_id.encode()
    client.send(signed(stack, 1, run_id), "?wait=persistence")
    value = framed(signed(stack, 2, run_id), tenant="nobody")
    place = produce(stack, value, [], key=key)
    _, partition, offset = place.split("/")
    wait_for(database, REJECTED, run_id, partition, offset, count=1)
    assert client.ask("GET", f"/api/wal/{place}")[0] == 404
    shown = integrity(client, run_id)
    assert (shown["event_count"], shown["rejected"]["count"]) == (1, 0)
