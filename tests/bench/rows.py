"""The same records through one of Tidegate's groups that store rows, and through the bare loop."""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import psycopg
from confluent_kafka import Producer

from schemas.access.credentials import CredentialsFile
from schemas.kafka import headers
from schemas.kafka.clients import producer_config
from schemas.kafka.seal import record_mac
from tests.bench.bare_loop import rows_per_s
from tests.bench.stored import RUN_EVENT_ROWS, StoredRows
from tests.support.log import ends
from tests.support.stack import RunningStack, wait_until

KEYS = 64
STORED_WITHIN_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Produced:
    """Records in the log that their group has not seen: per partition, from start to end."""

    starts: Mapping[int, int]
    ends: Mapping[int, int]

    @property
    def count(self) -> int:
        """Return how many records."""
        return sum(self.ends.values()) - sum(self.starts.values())


def produce(
    stack: RunningStack, count: int, *, tag: str, keys: int = KEYS, of: StoredRows = RUN_EVENT_ROWS
) -> Produced:
    """Stop the process that stores the rows, and write *count* records of so many *keys*, as a gateway writes them."""
    os.kill(stack.process(of.process).pid, signal.SIGSTOP)
    starts = ends(stack, of.topic)
    mac_secret = CredentialsFile(stack.folder / "credentials.toml").current(now_s=0).gateway.mac_secrets[0]
    producer = Producer(producer_config(stack.kafka, client_id="bench"))
    topic = of.topic.name
    for index in range(count):
        record = of.record(index, tag, keys)
        proof = record_mac(mac_secret, topic=topic, key=record.key, tenant=record.tenant.encode(), value=record.value)
        while True:
            try:
                producer.produce(
                    topic,
                    key=record.key,
                    value=record.value,
                    headers=[
                        (headers.EVENT_ID, record.event_id),
                        (headers.TENANT, record.tenant),
                        (headers.RECEIVED_AT, "2026-01-01T00:00:00.000Z"),
                        (headers.GATEWAY_MAC, proof),
                    ],
                )
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush(60)
    return Produced(starts=starts, ends=ends(stack, of.topic))


def tidegate_rows_per_s(stack: RunningStack, produced: Produced, of: StoredRows = RUN_EVENT_ROWS) -> float:
    """Let the process go on; return the rows stored a second between a tenth and the whole of them."""
    marks: list[tuple[float, int]] = []
    with psycopg.connect(stack.addresses.postgres, autocommit=True) as database:
        before = _stored(database, of)
        os.kill(stack.process(of.process).pid, signal.SIGCONT)

        def done() -> bool:
            stored = _stored(database, of) - before
            marks.append((perf_counter(), stored))
            return stored >= produced.count

        wait_until(done, timeout_s=STORED_WITHIN_S, what="every record to be stored")
    # The start is the first look at which a tenth was stored: joining the group again is not what is measured.
    start = next(mark for mark in marks if mark[1] >= produced.count / 10)
    return (marks[-1][1] - start[1]) / (marks[-1][0] - start[0])


def _stored(database: psycopg.Connection[Any], of: StoredRows) -> int:
    (count,) = database.execute(of.count).fetchone() or (0,)
    return int(count)


def bare_rows_per_s(stack: RunningStack, produced: Produced, of: StoredRows = RUN_EVENT_ROWS) -> float:
    """Return the same records through the bare loop."""
    return rows_per_s(stack.addresses.kafka, stack.addresses.postgres, produced.ends, produced.starts, of)
