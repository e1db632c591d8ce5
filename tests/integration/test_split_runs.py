"""
Runs whose records lie in two partitions, as a producer with another partitioner leaves them, on the real tables.

Two workers handle such a run at once. Here each is a store of its own, and a third session holds one of them up at the
step that a test is about.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from secrets import randbelow, token_hex
from typing import Any

import psycopg
import pytest

from processors.postgres.writes import PostgresWrites
from processors.runs.persistence.process import APPLICATION
from processors.runs.persistence.store import AppendResult, EventStore, Writing
from processors.runtime.contract import Arrival, Outcome, Tally
from schemas.errors import Reason, Rejection
from schemas.kafka.partitioner import partition_of
from schemas.runs.records import EnvironmentCaptured, RunEvent, RunFinalized, RunStatus
from tests.faults.checker import INVENTED_FROM
from tests.support import builders
from tests.support.stack import RunningStack

PARTITIONS = 1000
WITHIN_S = 30.0
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OFFSETS = count(INVENTED_FROM + randbelow(10**12))  # far behind what the log of the stack holds
HOLD_UP_THE_END = """
    INSERT INTO trace_records
        (tenant_id, run_id, status, event_count, chain_head, document, kafka_partition, kafka_offset)
    VALUES ('demo', %s, 'failed', 0, '', '{}', 0, %s)
"""  # uncommitted, it keeps whoever closes the run waiting
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = %s"
STORED = "SELECT seq, kafka_partition, payload::text FROM trace_events WHERE run_id = %s ORDER BY seq"
REJECTED = "SELECT reason, detail FROM rejected_events WHERE run_id = %s ORDER BY kafka_offset"
TRACE = "SELECT event_count, (document ->> 'wrong_partition')::int FROM trace_records WHERE run_id = %s"


class Run:
    """A run, the partition that its key belongs in, and another one."""

    def __init__(self) -> None:
        self.run_id = f"split-{token_hex(8)}"
        self.home = partition_of(self.run_id.encode(), PARTITIONS)
        self.elsewhere = (self.home + 1) % PARTITIONS

    def events(self, *seqs: int, partition: int | None = None, **changes: Any) -> list[Arrival]:
        """Direct events, in the wrong partition unless the test says otherwise."""
        records = [builders.run_event(builders.event(seq, run_id=self.run_id, **changes)) for seq in seqs]
        return [arrival(record, self.elsewhere if partition is None else partition) for record in records]

    def end(self, *, partition: int | None = None) -> Arrival:
        """Return the end of the run, in its own partition unless the test says otherwise."""
        record = RunFinalized(tenant=builders.TENANT, run_id=self.run_id, status=RunStatus.SUCCEEDED, finalized_at=NOW)
        return arrival(record, self.home if partition is None else partition)

    def environment(self, captured_at: datetime, partition: int, offset: int | None = None) -> Arrival:
        record = EnvironmentCaptured(
            tenant=builders.TENANT,
            run_id=self.run_id,
            environment=json.dumps({"captured_at": f"{captured_at}"}),
            environment_sha256=bytes(32),
            captured_at=captured_at,
        )
        return arrival(record, partition, offset)


def arrival(
    record: RunEvent | RunFinalized | EnvironmentCaptured, partition: int, offset: int | None = None
) -> Arrival:
    place = next(OFFSETS) if offset is None else offset
    raw: Any = builders.raw(record, partition=partition, offset=place, checked=False)
    return Arrival(raw, {}, record, None)


@pytest.fixture
def run() -> Run:
    return Run()


@asynccontextmanager
async def worker(stack: RunningStack, writing: Writing = Writing.NEW) -> AsyncIterator[EventStore]:
    async with PostgresWrites(stack.addresses.postgres, connections_max=2, application=APPLICATION) as writes:
        store = EventStore(writes, writing=writing)
        yield store


async def append(store: EventStore, arrivals: Sequence[Arrival]) -> AppendResult:
    async with asyncio.timeout(WITHIN_S):
        return await store.append(arrivals, partition_count=PARTITIONS)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not is_so():  # noqa: ASYNC110 - what it waits for is in Postgres
            await asyncio.sleep(0.01)


def one(database: psycopg.Connection[Any], query: str, *parameters: Any) -> Any:
    return database.execute(query, parameters).fetchone()  # type: ignore[call-overload]  # a constant of the test


def every(database: psycopg.Connection[Any], query: str, *parameters: Any) -> list[Any]:
    return database.execute(query, parameters).fetchall()  # type: ignore[call-overload]  # a constant of the test


@pytest.mark.parametrize("known", [(), (1,)], ids=["new run", "known run"])
async def test_events_that_meet_the_end_of_their_run_are_in_its_sum_or_rejected_with_the_true_reason(
    stack: RunningStack, database: psycopg.Connection[Any], run: Run, known: tuple[int, ...]
) -> None:
    """The end is handled while they wait. They were stored behind it, and its trace record did not count them."""
    async with worker(stack) as of_end, worker(stack) as of_events:
        if known:
            await append(of_events, run.events(*known))
        with psycopg.connect(stack.addresses.postgres) as holder:
            holder.execute(HOLD_UP_THE_END.encode(), (run.run_id, -next(OFFSETS)))

            def waiting(workers: int) -> Callable[[], bool]:
                return lambda: one(database, WAITING, APPLICATION)[0] >= workers

            closing = asyncio.create_task(append(of_end, [run.end()]))
            await until(waiting(1))
            adding = asyncio.create_task(append(of_events, run.events(2, 3, 4)))
            await until(waiting(2))
            holder.rollback()
        await closing
        appended = await adding
    assert len(every(database, STORED, run.run_id)) == len(known)
    assert one(database, TRACE, run.run_id) == (len(known), len(known))
    assert appended.tally == Tally({(Outcome.REJECTED, Reason.WRONG_PARTITION): 3})
    for reason, detail in every(database, REJECTED, run.run_id):
        assert reason == "wrong_partition"
        assert f"finalized by run.events/{run.home}/" in detail
        assert f"written to partition {run.elsewhere} and not to {run.home}" in detail


async def test_the_end_of_a_run_waits_for_the_events_that_are_being_stored(
    stack: RunningStack, database: psycopg.Connection[Any], run: Run
) -> None:
    """Whoever comes second sees all that the first one stored."""
    events = run.events(1, 2, 3)
    async with worker(stack) as of_end, worker(stack) as of_events:
        with psycopg.connect(stack.addresses.postgres) as holder:
            place = (events[2].raw.partition, events[2].raw.offset)
            holder.execute(
                "INSERT INTO trace_events "
                "SELECT 'demo', 'other', %s, NULL, '', now(), '', '', '', '1', NULL, '{}', '', %s, %s, now()",
                (next(OFFSETS), *place),
            )
            adding = asyncio.create_task(append(of_events, events))
            await until(lambda: one(database, WAITING, APPLICATION)[0] >= 1)
            closing = asyncio.create_task(append(of_end, [run.end()]))
            await until(lambda: one(database, WAITING, APPLICATION)[0] >= 2)
            holder.rollback()
        await adding
        await closing
    assert len(every(database, STORED, run.run_id)) == 3
    assert one(database, TRACE, run.run_id) == (3, 3)


async def test_two_workers_that_store_one_new_run_both_store_it(
    stack: RunningStack, database: psycopg.Connection[Any], run: Run
) -> None:
    async with worker(stack) as first, worker(stack) as second:
        await asyncio.gather(
            *(append(first, run.events(seq)) for seq in range(1, 20, 2)),
            *(append(second, run.events(seq, partition=run.home)) for seq in range(2, 20, 2)),
        )
    assert [seq for seq, _, _ in every(database, STORED, run.run_id)] == list(range(1, 20))
    assert one(database, "SELECT event_count, last_seq FROM runs WHERE run_id = %s", run.run_id) == (19, 19)


async def test_a_replay_that_overwrites_never_takes_a_stored_event_back(
    stack: RunningStack, database: psycopg.Connection[Any], run: Run
) -> None:
    """Behind the end of the run in another partition it would be rejected now, and its row be gone."""
    events = run.events(1, 2, 3)
    async with worker(stack) as store, worker(stack, Writing.OVERWRITE) as replay:
        await append(store, events)
        await append(store, [run.end()])
        database.execute("UPDATE trace_events SET payload = '1' WHERE run_id = %s", (run.run_id,))
        database.execute("UPDATE trace_records SET event_count = 0 WHERE run_id = %s", (run.run_id,))
        appended = await append(replay, events)
    assert appended.tally == Tally({(Outcome.DONE, None): 3})
    rows = every(database, STORED, run.run_id)
    assert [(seq, partition) for seq, partition, _ in rows] == [(seq, run.elsewhere) for seq in (1, 2, 3)]
    assert all("thought" in payload for _, _, payload in rows)
    assert every(database, REJECTED, run.run_id) == []
    assert one(database, "SELECT event_count FROM runs WHERE run_id = %s", run.run_id) == (3,)
    assert one(database, TRACE, run.run_id) == (3, 3)


@pytest.mark.parametrize("writing", [Writing.OVERWRITE, Writing.MISSING, Writing.NEW])
async def test_a_stored_event_that_breaks_a_rule_of_today_stays_stored(
    stack: RunningStack, database: psycopg.Connection[Any], run: Run, writing: Writing
) -> None:
    """An agent was removed, a bound was lowered: the record is the same, and was valid when it was stored."""
    events = run.events(1, 2)
    rejection = Rejection(reason=Reason.UNKNOWN_AGENT, detail="removed since")
    invalid = [Arrival(each.raw, each.headers, each.record, rejection) for each in events]
    async with worker(stack) as store, worker(stack, writing) as replay:
        await append(store, events)
        appended = await append(replay, invalid)
    assert appended.tally == Tally({(Outcome.REDELIVERY, None): 2})
    assert len(every(database, STORED, run.run_id)) == 2
    assert every(database, REJECTED, run.run_id) == []


async def test_a_replay_that_overwrites_says_again_why_a_record_was_rejected(
    stack: RunningStack, database: psycopg.Connection[Any], run: Run
) -> None:
    [first, other] = run.events(1), run.events(1, payload="other")
    async with worker(stack) as store, worker(stack, Writing.OVERWRITE) as replay:
        await append(store, [*first, *other])
        database.execute("UPDATE rejected_events SET detail = 'before' WHERE run_id = %s", (run.run_id,))
        await append(replay, [*first, *other])
    assert len(every(database, STORED, run.run_id)) == 1
    assert every(database, REJECTED, run.run_id) == [("conflict", "seq 1 has other content")]


async def test_environments_from_two_partitions_keep_the_later_capture_and_its_own_place(
    stack: RunningStack, database: psycopg.Connection[Any], run: Run
) -> None:
    """The row had the offset of one partition and the number of the other: a place that another run's may have."""
    later, offset = NOW + timedelta(hours=1), next(OFFSETS) + 1000
    other = Run()
    async with worker(stack) as store:
        await append(store, [other.environment(NOW, run.home, offset)])
        await append(store, [run.environment(NOW, run.home)])
        await append(store, [run.environment(later, run.elsewhere, offset)])
        await append(store, [run.environment(NOW, run.home, offset + 1)])
    query = "SELECT captured_at, kafka_partition, kafka_offset FROM environment_snapshots WHERE run_id = %s"
    assert one(database, query, run.run_id) == (later, run.elsewhere, offset)
