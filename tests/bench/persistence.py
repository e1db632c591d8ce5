"""The same records through Tidegate's persistence and through the bare loop."""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import psycopg
from confluent_kafka import Producer

from schemas.access.credentials import CredentialsFile
from schemas.catalogue import CODEC
from schemas.kafka import headers
from schemas.kafka.clients import producer_config
from schemas.kafka.seal import record_mac
from schemas.runs.records import RunEvent, event_id
from schemas.runs.topics import RUN_EVENTS
from tests.bench.bare_loop import rows_per_s
from tests.support.builders import event, run_event
from tests.support.log import ends
from tests.support.stack import RunningStack, wait_until

RUNS = 64
STORED_WITHIN_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Produced:
    """Records in the log that persistence has not seen: per partition, from start to end."""

    starts: Mapping[int, int]
    ends: Mapping[int, int]

    @property
    def count(self) -> int:
        """Return how many records."""
        return sum(self.ends.values()) - sum(self.starts.values())


def produce(stack: RunningStack, count: int, *, tag: str, runs: int = RUNS) -> Produced:
    """Stop persistence and write *count* events, as a gateway writes them."""
    os.kill(stack.process("persistence").pid, signal.SIGSTOP)
    starts = ends(stack, RUN_EVENTS)
    mac_secret = CredentialsFile(stack.folder / "credentials.toml").current(now_s=0).gateway.mac_secrets[0]
    producer = Producer(producer_config(stack.kafka, client_id="bench"))
    topic = RUN_EVENTS.name
    for index in range(count):
        record = _record(index, tag, runs)
        key, value = record.run_id.encode(), CODEC.encode(record)
        while True:
            try:
                producer.produce(
                    topic,
                    key=key,
                    value=value,
                    headers=[
                        (headers.EVENT_ID, event_id(record.tenant, record.run_id, record.seq)),
                        (headers.TENANT, record.tenant),
                        (headers.SEQ, str(record.seq)),
                        (headers.RECEIVED_AT, "2026-01-01T00:00:00.000Z"),
                        (
                            headers.GATEWAY_MAC,
                            record_mac(mac_secret, topic=topic, key=key, tenant=record.tenant.encode(), value=value),
                        ),
                    ],
                )
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush(60)
    return Produced(starts=starts, ends=ends(stack, RUN_EVENTS))


def _record(index: int, tag: str, runs: int) -> RunEvent:
    payload = {"tool": "read", "path": "logs/day-17.txt", "call_id": f"c{index}", "text": "x" * 120}
    given = event(index // runs + 1, run_id=f"{tag}-{index % runs}", type="tool_call", payload=payload)
    return run_event(given)


def tidegate_rows_per_s(stack: RunningStack, produced: Produced) -> float:
    """Let persistence go on; return the rows stored a second between a tenth and the whole of them."""
    marks: list[tuple[float, int]] = []
    with psycopg.connect(stack.addresses.postgres, autocommit=True) as database:
        before = _stored(database)
        os.kill(stack.process("persistence").pid, signal.SIGCONT)

        def done() -> bool:
            stored = _stored(database) - before
            marks.append((perf_counter(), stored))
            return stored >= produced.count

        wait_until(done, timeout_s=STORED_WITHIN_S, what="every record to be stored")
    # The start is the first look at which a tenth was stored: joining the group again is not what is measured.
    start = next(mark for mark in marks if mark[1] >= produced.count / 10)
    return (marks[-1][1] - start[1]) / (marks[-1][0] - start[0])


def _stored(database: psycopg.Connection[Any]) -> int:
    (count,) = database.execute("SELECT coalesce(sum(event_count), 0) FROM runs").fetchone() or (0,)
    return int(count)


def bare_rows_per_s(stack: RunningStack, produced: Produced) -> float:
    """Return the same records through the bare loop."""
    return rows_per_s(stack.addresses.kafka, stack.addresses.postgres, produced.ends, produced.starts)
