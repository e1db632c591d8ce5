"""Poison wherever it stands in a slice: into the dead letters with its bytes, its neighbours stored in order."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256

import psycopg
import pytest
from confluent_kafka import Message, Producer

from deploy.local.development import LIMITS
from processors.runtime.limit import DeadLetterLimit
from schemas.kafka import headers
from schemas.kafka.clients import producer_config
from schemas.kafka.topics import Group
from schemas.runs.topics import EVALUATION, PERSISTENCE, RUN_EVENTS
from tests.faults.checker import check_committed_is_applied, lag, wait_for_no_lag
from tests.faults.database import stored
from tests.faults.groups import wait_for_every_group
from tests.faults.processes import held_down, page, peak_mib
from tests.faults.records import POISON, dead_letters, good, new_run, original_place, produce
from tests.support.log import WITHIN_S, read_topic
from tests.support.stack import RunningStack, wait_until

G, P = True, False
SLICES = {
    "first": [P, G, G, G],
    "middle": [G, G, P, G],
    "last": [G, G, G, P],
    "every second": [P, G, P, G, P],
    "whole": [P, P, P],
}

REFUSED = 10_000
PARTITION = 5
PROCESSES = ("gateway", "persistence", "evaluation", "fanout")
LARGE_BYTES = 13 * 1024 * 1024  # inflated it may be, as a dead letter it would be larger than its topic takes
HUGE_BYTES = 200_000_000  # 7 KB in zstd
MEMORY_MAX_MIB = 300
# A fault of ours: the store refuses the events of one agent. The class (23, constraint) says poison.
REFUSE = "ALTER TABLE trace_events ADD CONSTRAINT refused CHECK (agent_id <> 'demo-agent') NOT VALID"
ADMIT = "ALTER TABLE trace_events DROP CONSTRAINT refused"
GROUPS = (PERSISTENCE, EVALUATION.group("default"))
NO_LIMIT = "".join(f'[dead_letters."{group.name}"]\nconsecutive_max = 1000000\nshare_max = 1.0\n' for group in GROUPS)


def test_poison_costs_none_of_its_neighbours(stack: RunningStack) -> None:
    runs = {name: new_run() for name in SLICES}
    with held_down(stack, "persistence"):  # so that each run is one slice
        for partition, (name, kinds) in enumerate(SLICES.items()):
            values = [good(stack, runs[name], 1 + sum(kinds[:at])) if kinds[at] else POISON for at in range(len(kinds))]
            produce(stack, runs[name], values, partition=partition)

    def settled() -> bool:
        found = [(len(stored(stack, run_id)), len(dead_letters(stack, run_id))) for run_id in runs.values()]
        return found == [(kinds.count(G), kinds.count(P)) for kinds in SLICES.values()]

    wait_until(settled, timeout_s=60, what="every record to be stored or dead-lettered")
    for name, kinds in SLICES.items():
        letters = dead_letters(stack, runs[name])
        assert {letter.value() for letter in letters} == {POISON}, name
        first = original_place(letters[0])[1] - kinds.index(P)
        assert [original_place(letter)[1] - first for letter in letters] == [
            place for place, kind in enumerate(kinds) if kind is P
        ], name
        assert stored(stack, runs[name]) == list(range(1, kinds.count(G) + 1)), name


@pytest.mark.parametrize("coding", ["zstd", pytest.param("lz4", marks=pytest.mark.soak)])
def test_records_that_are_large_once_they_are_inflated_stop_nobody(stack: RunningStack, coding: str) -> None:
    """Regression: one such record stopped persistence and each endpoint for ever; its letter was too large to write."""
    run_id = new_run()
    pids = {name: stack.process(name).pid for name in PROCESSES}
    produce(stack, run_id, [good(stack, run_id, 1)], partition=PARTITION)
    wal_ids = produce_packed(stack, run_id, [b"a" * LARGE_BYTES, bytes(HUGE_BYTES)], coding=coding, partition=PARTITION)
    produce(stack, run_id, [good(stack, run_id, 2)], partition=PARTITION)
    wait_until(lambda: stored(stack, run_id) == [1, 2], timeout_s=60, what="the events around them to be stored")
    large, huge = (letter_of(stack, PERSISTENCE, wal_id) for wal_id in wal_ids)
    assert (large.value(), huge.value()) == (None, None)
    assert large.key() == run_id.encode()
    by_name, of_huge = dict(large.headers() or []), dict(huge.headers() or [])
    assert by_name[headers.CUT_PARTS] == b"value"
    assert by_name[headers.CUT_VALUE_BYTES] == b"%d" % LARGE_BYTES
    assert by_name[headers.CUT_VALUE_SHA256] == sha256(b"a" * LARGE_BYTES).hexdigest().encode()
    assert of_huge[headers.CUT_PARTS] == b"value key headers"
    assert of_huge[headers.ERROR_CLASS] == b"too_large"
    for wal_id in wal_ids:
        assert letter_of(stack, EVALUATION.group("default"), wal_id).value() is None
    assert {name: stack.process(name).pid for name in PROCESSES} == pids
    assert all(peak_mib(pid) < MEMORY_MAX_MIB for pid in pids.values()), {name: peak_mib(pids[name]) for name in pids}
    listed = json.loads(stack.command("dlq", "list", wal_ids[0], wal_ids[1], "--json"))
    assert [each["bytes"] for each in listed["letters"]] == ["cut", "cut"]
    shown = json.loads(stack.command("dlq", "show", wal_ids[0], "--json"))
    assert shown["headers"][headers.CUT_VALUE_BYTES] == str(LARGE_BYTES)
    done = json.loads(stack.command("dlq", "redrive", wal_ids[0], wal_ids[1], "--yes", "--json"))
    assert (done["redriven"], done["cut"]) == (0, 2)


def produce_packed(
    stack: RunningStack, run_id: str, values: Sequence[bytes], *, coding: str, partition: int
) -> list[str]:
    """Append *values* as a producer without our bounds does, each a compressed batch of its own; their wal_ids."""
    config = producer_config(stack.kafka, client_id="fault", record_bytes_max=2 * HUGE_BYTES)
    producer = Producer(config | {"compression.type": coding, "linger.ms": 0})
    wal_ids: list[str] = []

    def reported(error: object, message: Message) -> None:
        assert error is None, error
        wal_ids.append(f"{message.topic()}/{message.partition()}/{message.offset()}")

    for value in values:
        producer.produce(RUN_EVENTS.name, key=run_id.encode(), value=value, partition=partition, on_delivery=reported)
        assert producer.flush(WITHIN_S) == 0
    return wal_ids


def letter_of(stack: RunningStack, group: Group, wal_id: str) -> Message:
    """Return the dead letter of the record at *wal_id*, once it is there."""
    found: list[Message] = []

    def is_there() -> bool:
        origin = [headers.ORIGINAL_TOPIC, headers.ORIGINAL_PARTITION, headers.ORIGINAL_OFFSET]
        for letter in read_topic(stack, group.dead_letters):
            by_name = dict(letter.headers() or [])
            if "/".join((by_name.get(name) or b"").decode() for name in origin) == wal_id:
                found.append(letter)
        return bool(found)

    wait_until(is_there, timeout_s=60, what=f"{wal_id} to be a dead letter of {group.name}")
    return found[-1]


def test_a_topic_of_nothing_but_poison_stops_at_the_limit_and_goes_on_when_it_is_raised(stack: RunningStack) -> None:
    run_id, other = new_run(), new_run()
    most = DeadLetterLimit().consecutive_max
    produce(stack, run_id, [POISON] * (3 * most), partition=PARTITION)
    wait_until(lambda: "dead-letter limit" in readiness(stack), timeout_s=60, what="the limit to be reached")
    produce(stack, other, [good(stack, other, 1)], partition=PARTITION - 1)
    wait_until(lambda: stored(stack, other) == [1], timeout_s=30, what="another partition to go on")
    assert len(dead_letters(stack, run_id)) == most
    assert lag(stack) >= 2 * most
    with without_limit(stack):
        wait_until(lambda: len(dead_letters(stack, run_id)) == 3 * most, timeout_s=60, what="the lane to go on")
        wait_for_every_group(stack)
    assert json.loads(readiness(stack))["status"] == "ready"


def readiness(stack: RunningStack) -> str:
    """Return what persistence says of itself."""
    return page(stack.addresses.management["persistence"], "/readyz")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_ten_thousand_dead_letters_are_stored_once_each_after_a_fix(stack: RunningStack) -> None:
    runs = [new_run() for _ in range(REFUSED // 100)]
    with psycopg.connect(stack.addresses.postgres, autocommit=True) as database, without_limit(stack):
        database.execute(REFUSE)
        try:
            for run_id in runs:
                produce(stack, run_id, [good(stack, run_id, seq) for seq in range(1, 101)], partition=PARTITION)
            wait_for_no_lag(stack)
        finally:
            database.execute(ADMIT)
        counted = "SELECT count(*), count(DISTINCT (run_id, seq)) FROM trace_events WHERE run_id = ANY(%s)"
        assert database.execute(counted, (runs,)).fetchone() == (0, 0)
        answer = json.loads(stack.command("dlq", "redrive", "--reason", "not_storable", "--yes", "--json"))
        assert (answer["redriven"], answer["lag_records"]) == (REFUSED, 0)
        assert database.execute(counted, (runs,)).fetchone() == (REFUSED, REFUSED)
    assert all(stored(stack, run_id) == list(range(1, 101)) for run_id in runs)
    assert json.loads(stack.command("dlq", "list", "--reason", "not_storable", "--json"))["waiting"] == 0
    check_committed_is_applied(stack)


@contextmanager
def without_limit(stack: RunningStack) -> Iterator[None]:
    """Let any number of records be poison, as a person who knows the cause would."""
    limits = stack.folder / LIMITS
    kept = limits.read_text()
    limits.write_text(NO_LIMIT)
    try:
        yield
    finally:
        limits.write_text(kept)
