"""What must be true of the log and the tables once faults have cleared: P1 to P6 of the promises, from a ledger."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.kafka.clients import looking_config
from schemas.kafka.lookups import record_at
from schemas.runs.topics import PERSISTENCE
from tests.faults.records import original_place
from tests.support import log
from tests.support.log import read_topic
from tests.support.stack import RunningStack, wait_until

GROUP = PERSISTENCE
RECOVERY_S = 120.0

# Tests of the store write rows of offsets from here on, which the log does not have.
INVENTED_FROM = 10**12
APPLIED = """
    SELECT kafka_partition, max(kafka_offset) FROM (
        SELECT kafka_partition, kafka_offset FROM trace_events
        UNION ALL SELECT kafka_partition, kafka_offset FROM duplicate_events
        UNION ALL SELECT kafka_partition, kafka_offset FROM rejected_events
        UNION ALL SELECT kafka_partition, kafka_offset FROM environment_snapshots
        UNION ALL SELECT kafka_partition, kafka_offset FROM trace_records
    ) AS applied WHERE kafka_offset < %s GROUP BY kafka_partition
"""

# The moment at which a transaction began: slices of a partition follow each other, so it grows with the offset.
STORED = """
    SELECT run_id, seq, kafka_partition, stored_at FROM trace_events WHERE run_id = ANY(%s) ORDER BY kafka_offset
"""

Key = tuple[str, int]  # run_id, seq


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What the sender knows of each event."""

    ok: frozenset[Key]
    fail: frozenset[Key]
    info: frozenset[Key]

    @property
    def sent(self) -> frozenset[Key]:
        """Return every event that was ever sent."""
        return self.ok | self.fail | self.info


def read_ledger(path: Path) -> Ledger:
    """Read the lines that `tidegate send --ledger` wrote."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    by_outcome = {
        outcome: frozenset((line["run_id"], line["seq"]) for line in lines if line["outcome"] == outcome)
        for outcome in ("ok", "fail", "info")
    }
    return Ledger(**by_outcome)


def committed(stack: RunningStack) -> dict[int, int]:
    """Return the group's committed offset by partition; a broker that was just started may not know them yet."""
    admin = AdminClient({"bootstrap.servers": stack.addresses.kafka, "log_level": 0})
    found: list[TopicPartition] = []

    def told() -> bool:
        try:
            request = [ConsumerGroupTopicPartitions(GROUP.id)]
            found[:] = admin.list_consumer_group_offsets(request)[GROUP.id].result(30).topic_partitions
        except KafkaException as error:
            if error.args[0].code() != KafkaError.COORDINATOR_LOAD_IN_PROGRESS:
                raise
            return False
        return True

    wait_until(told, timeout_s=RECOVERY_S, what="the group's coordinator to know its offsets")
    return {each.partition: each.offset for each in found if each.topic == GROUP.source.name}


def ends(stack: RunningStack) -> dict[int, int]:
    """
    Return where the group's source ends, by partition; a broker that was just started may not know all of them yet.
    """
    found: dict[int, int] = {}

    def told() -> bool:
        with suppress(KafkaException):
            found.update(log.ends(stack, GROUP.source))
        return bool(found)

    wait_until(told, timeout_s=RECOVERY_S, what="the broker to say where its partitions end")
    return found


def lag(stack: RunningStack) -> int:
    """Return how many records the group has not passed."""
    passed = committed(stack)
    return sum(end - passed.get(partition, 0) for partition, end in ends(stack).items())


def applied(stack: RunningStack) -> dict[int, int]:
    """Return the last offset by partition whose effect is in the tables or in the dead letters."""
    with psycopg.connect(stack.addresses.postgres) as database:
        stored: dict[int, int] = dict(database.execute(APPLIED, (INVENTED_FROM,)).fetchall())
    # Nor does it have their partitions.
    partitions = committed(stack).keys()
    last = {partition: offset for partition, offset in stored.items() if partition in partitions}
    for letter in read_topic(stack, GROUP.dead_letters):
        partition, offset = original_place(letter)
        last[partition] = max(offset, last.get(partition, -1))
    return last


def check_committed_is_applied(stack: RunningStack) -> None:
    """P5, at this moment: no committed offset is ahead of the effect that it stands for."""
    before = committed(stack)
    effects = applied(stack)
    ahead = {
        partition: (offset, effects.get(partition))
        for partition, offset in before.items()
        if offset > 0 and _holds_records(stack, partition, effects.get(partition, -1) + 1, offset)
    }
    assert ahead == {}, f"P5: offsets are committed ahead of their effects: {ahead}"


def _holds_records(stack: RunningStack, partition: int, start: int, end: int) -> bool:
    """
    Return whether a partition has records from *start* on and below *end*, beside markers and aborted transactions.
    """
    if start >= end:
        return False
    config = looking_config(stack.kafka, group_id="checker", client_id="checker")
    consumer = Consumer(config | {"auto.offset.reset": "earliest"})
    try:
        message = record_at(consumer, (GROUP.source.name, partition), start, timeout_s=30)
        return message is not None and (message.offset() or 0) < end
    finally:
        consumer.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the tables hold, against what was sent. The lists name what breaks a promise."""

    sent: int
    accepted: int
    stored: int
    rejected: int
    lost: Sequence[Key]
    doubled: Sequence[Key]
    foreign: Sequence[Key]
    out_of_order: Sequence[str]

    def demand(self) -> None:
        """Fail unless every promise was kept."""
        assert not self.lost, f"P1: {len(self.lost)} events were answered 202 and are not stored: {self.lost[:3]}"
        assert not self.doubled, f"P1: {len(self.doubled)} events are stored twice: {self.doubled[:3]}"
        assert not self.foreign, f"P4: {len(self.foreign)} events are stored that were never sent: {self.foreign[:3]}"
        assert not self.out_of_order, f"P2: {len(self.out_of_order)} events, for instance {self.out_of_order[:3]}"


def check(stack: RunningStack, ledgers: Iterable[Ledger]) -> Findings:
    """Wait until lag is 0 (P6), then demand P1, P2, P4 and P5."""
    wait_for_no_lag(stack)
    findings = examine(stack, ledgers)
    findings.demand()
    check_committed_is_applied(stack)
    return findings


def wait_for_no_lag(stack: RunningStack) -> None:
    """Wait until the group has passed everything (P6)."""
    wait_until(lambda: lag(stack) == 0, timeout_s=RECOVERY_S, what="lag to come back to 0 (P6)")


def wait_for_progress(stack: RunningStack) -> None:
    """Wait until the group has passed what lies in the log now, under load."""
    now = ends(stack)
    wait_until(
        lambda: all(offset >= now[partition] for partition, offset in committed(stack).items()),
        timeout_s=RECOVERY_S,
        what="the group to come to where the log ended (P6)",
    )


def examine(stack: RunningStack, ledgers: Iterable[Ledger]) -> Findings:
    """Hold the tables, as they are now, against the ledgers."""
    known = list(ledgers)
    ok = frozenset[Key]().union(*(each.ok for each in known))
    sent = frozenset[Key]().union(*(each.sent for each in known))
    runs = sorted({run_id for run_id, _ in sent})
    with psycopg.connect(stack.addresses.postgres) as database:
        rows = database.execute(STORED, (runs,)).fetchall()
        rejected = database.execute("SELECT count(*) FROM rejected_events WHERE run_id = ANY(%s)", (runs,)).fetchone()
    stored = Counter((run_id, seq) for run_id, seq, *_ in rows)
    return Findings(
        sent=len(sent),
        accepted=len(ok),
        stored=len(stored),
        rejected=(rejected or (0,))[0],
        lost=sorted(ok - stored.keys()),
        doubled=sorted(key for key, count in stored.items() if count > 1),
        foreign=sorted(stored.keys() - sent),
        # What the log has lost has no place any more.
        out_of_order=list(disorder(row for row in rows if row[2] >= 0)),
    )


def disorder(rows: Iterable[tuple[str, int, int, datetime]]) -> Iterator[str]:
    """
    Yield where a run's rows, in the order of the log, change partition or do not rise in seq and in time of storing.
    """
    last: dict[str, tuple[int, int, datetime]] = {}
    for run_id, seq, partition, stored_at in rows:
        before_seq, before_partition, before_at = last.get(run_id, (0, partition, stored_at))
        if partition != before_partition:
            yield f"run {run_id} lies in two partitions"
        elif seq < before_seq:
            yield f"run {run_id} has seq {seq} after {before_seq}"
        elif stored_at < before_at:
            yield f"run {run_id} had seq {seq} stored before {before_seq}"
        last[run_id] = (seq, partition, stored_at)
