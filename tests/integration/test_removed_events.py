"""What is known of a run that lost events to retention, at each step of their way back, on the real tables."""

from datetime import UTC, datetime
from typing import Any

import psycopg

from gateway.postgres.pool import PostgresReads
from gateway.runs.postgres import PostgresRunStore
from processors.runs.persistence.store import Writing
from processors.runs.retention.policy import parse_retention
from processors.runs.retention.rules import CommittedFloors
from processors.runs.retention.store import RetentionStore
from processors.runtime.contract import Arrival
from schemas.runs import chain
from tests.integration.test_split_runs import PARTITIONS, Run, append, one, worker
from tests.support.builders import TENANT
from tests.support.stack import RunningStack

YEAR = parse_retention("[retention]\nevents_days = 365\n")
AGE_RUN = "UPDATE runs SET updated_at = '2020-01-01' WHERE run_id = %s"
AGE_EVENTS = "UPDATE trace_events SET stored_at = '2020-01-01' WHERE run_id = %s"
TRACE = "SELECT document, chain_head FROM trace_records WHERE run_id = %s"


async def remove(stack: RunningStack, database: psycopg.Connection[Any], run_id: str) -> None:
    for statement in (AGE_RUN, AGE_EVENTS):
        database.execute(statement.encode(), (run_id,))
    passed = CommittedFloors(floors=dict.fromkeys(range(PARTITIONS), 2**62))
    async with RetentionStore.opened(stack.addresses.postgres) as store:
        [(_, hold)] = await store.remove_runs([(TENANT, run_id)], YEAR, passed, now=datetime.now(UTC))
    assert hold is None


def head(events: list[Arrival]) -> bytes:
    records: list[Any] = [event.record for event in events]
    return chain.head((record.seq, record.event_sha256) for record in records)


async def test_a_removal_is_told_until_the_last_of_its_events_is_stored_again(
    stack: RunningStack, database: psycopg.Connection[Any]
) -> None:
    """Four events came behind three that were removed, and a gap that was always there is none of them."""
    run = Run()
    before, since = (run.events(*seqs, partition=run.home) for seqs in ((1, 2, 3), (4, 6, 7, 8)))
    whole = head(before + since)
    async with (
        worker(stack) as live,
        worker(stack, Writing.MISSING) as replay,
        PostgresReads(stack.addresses.postgres) as reads,
    ):
        store = PostgresRunStore(reads)

        async def shown() -> Any:
            return await store.integrity(TENANT, run.run_id, home_partition=run.home)

        await append(live, before)
        await remove(stack, database, run.run_id)
        await append(live, since)
        told = await shown()
        assert (told.removed.event_count, told.removed.ranges) == (3, [[1, 3]])
        assert (told.missing.count, told.missing.ranges) == (1, [[5, 5]])
        assert [removal.chain_head for removal in told.removed.removals] == [head(before).hex()]

        await append(live, [run.end()])
        document, chain_head = one(database, TRACE, run.run_id)
        assert chain_head == whole
        assert (document["events_removed"]["ranges"], document["missing"]["ranges"]) == ([[1, 3]], [[5, 5]])
        assert document["events_removed"]["chain_head"] == head(before).hex()

        await append(replay, before[:2])
        told = await shown()
        assert (told.removed.event_count, told.removed.ranges, told.event_count) == (1, [[3, 3]], 6)
        assert one(database, TRACE, run.run_id) == (document, whole), "it never speaks of half of a run"

        await append(replay, before)
        told = await shown()
        assert (told.removed, told.missing.ranges, told.event_count) == (None, [[5, 5]], 7)
        document, chain_head = one(database, TRACE, run.run_id)
        assert (chain_head, document["event_count"], "events_removed" in document) == (whole, 7, False)


async def test_a_second_removal_goes_on_from_the_head_of_the_first(
    stack: RunningStack, database: psycopg.Connection[Any]
) -> None:
    """Half of the first one's events are back by then, and are no second link of the chain."""
    run = Run()
    before, since = (run.events(*seqs, partition=run.home) for seqs in ((1, 2), (3, 4)))
    async with worker(stack) as live, PostgresReads(stack.addresses.postgres) as reads:
        await append(live, before)
        await remove(stack, database, run.run_id)
        await append(live, [*since, before[1]])
        await remove(stack, database, run.run_id)
        told = await PostgresRunStore(reads).integrity(TENANT, run.run_id, home_partition=None)
    assert told is not None
    assert told.removed is not None
    assert (told.removed.event_count, told.removed.ranges) == (4, [[1, 4]])
    heads = [head(before + since).hex(), head(before).hex()]
    assert [removal.chain_head for removal in told.removed.removals] == heads
    assert (told.chain_head, told.wrong_partition) == (heads[0], None)
