"""What must be true of the log and the tables once faults have cleared: P1 to P6 of the promises, from a ledger."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas import topics
from tests.stack import RunningStack, wait_until

GROUP = topics.PERSISTENCE
RECOVERY_S = 120.0

APPLIED = """
    SELECT kafka_partition, max(kafka_offset) FROM (
        SELECT kafka_partition, kafka_offset FROM trace_events
        UNION ALL SELECT kafka_partition, kafka_offset FROM duplicate_events
        UNION ALL SELECT kafka_partition, kafka_offset FROM rejected_events
        UNION ALL SELECT kafka_partition, kafka_offset FROM environment_snapshots
        UNION ALL SELECT kafka_partition, kafka_offset FROM trace_records
    ) AS applied GROUP BY kafka_partition
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
        """Every event that was ever sent."""
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
    """The group's committed offset by partition."""
    admin = AdminClient({"bootstrap.servers": stack.addresses.kafka})
    request = [ConsumerGroupTopicPartitions(GROUP.id)]
    answer = admin.list_consumer_group_offsets(request)[GROUP.id].result(30)
    return {each.partition: each.offset for each in answer.topic_partitions if each.topic == GROUP.source.name}


def lag(stack: RunningStack) -> int:
    """How many records the group has not passed."""
    consumer = Consumer({"bootstrap.servers": stack.addresses.kafka, "group.id": "checker"})
    try:
        return sum(
            consumer.get_watermark_offsets(TopicPartition(GROUP.source.name, partition), timeout=30)[1] - offset
            for partition, offset in committed(stack).items()
        )
    finally:
        consumer.close()


def check_committed_is_applied(stack: RunningStack) -> None:
    """P5, at this moment: no committed offset is ahead of the effect that it stands for."""
    before = committed(stack)
    with psycopg.connect(stack.addresses.postgres) as database:
        applied = dict(database.execute(APPLIED).fetchall())
    ahead = {
        partition: (offset, applied.get(partition))
        for partition, offset in before.items()
        if offset > 0 and offset > applied.get(partition, -1) + 1
    }
    assert ahead == {}


def check(stack: RunningStack, ledgers: Iterable[Ledger]) -> dict[str, int]:
    """Wait until lag is 0 (P6), then hold tables against the ledgers; return the counts for a report."""
    wait_until(lambda: lag(stack) == 0, timeout_s=RECOVERY_S, what="lag to come back to 0 (P6)")
    ok = frozenset[Key]().union(*(each.ok for each in ledgers))
    sent = frozenset[Key]().union(*(each.sent for each in ledgers))
    runs = sorted({run_id for run_id, _ in sent})
    with psycopg.connect(stack.addresses.postgres) as database:
        rows = database.execute(
            "SELECT run_id, seq, kafka_partition FROM trace_events WHERE run_id = ANY(%s) ORDER BY kafka_offset",
            (runs,),
        ).fetchall()
        rejected = database.execute("SELECT count(*) FROM rejected_events WHERE run_id = ANY(%s)", (runs,)).fetchone()
    stored = [(run_id, seq) for run_id, seq, _ in rows]
    lost = ok - set(stored)
    assert not lost, f"P1: {len(lost)} events were answered 202 and are not stored, for instance {sorted(lost)[:3]}"
    assert len(stored) == len(set(stored)), "P1: an event is stored twice"
    foreign = set(stored) - sent
    assert not foreign, f"P4: {len(foreign)} events are stored that were never sent"
    check_order(rows)
    check_committed_is_applied(stack)
    return {"sent": len(sent), "accepted": len(ok), "stored": len(stored), "rejected": (rejected or (0,))[0]}


def check_order(rows: Iterable[tuple[str, int, int]]) -> None:
    """P2: the rows of one run, in the order of the log, are in the order of seq, and in one partition."""
    last: dict[str, tuple[int, int]] = {}
    for run_id, seq, partition in rows:
        before_seq, before_partition = last.get(run_id, (0, partition))
        assert seq > before_seq, f"P2: run {run_id} has seq {seq} after {before_seq}"
        assert partition == before_partition, f"P2: run {run_id} lies in two partitions"
        last[run_id] = (seq, partition)
