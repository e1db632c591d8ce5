"""Mistakes that the suite must see: each mutation of the product turns the check that is meant for it red."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from processors.runtime.failpoints import EXIT_KILLED, Failpoint
from tests.faults.checker import check, check_committed_is_applied, examine, read_ledger, wait_for_no_lag
from tests.faults.database import slow_database
from tests.faults.load import sending
from tests.faults.processes import held_down, own_process, paused
from tests.faults.records import new_run
from tests.support.builders import event
from tests.support.stack import RunningStack, throwaway, wait_until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

SEEN_WITHIN_S = 120.0
RUNS = 20  # CRC32 and murmur2 agree on one in eight
END_SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'tidegate-persistence' AND state <> 'idle'
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Yield a stack of their own: what mutations leave behind would turn other tests red as well."""
    folder = tmp_path_factory.mktemp("mutated")
    with throwaway(folder) as started:
        yield started


def test_without_a_mutation_the_same_treatment_breaks_nothing(stack: RunningStack, tmp_path: Path) -> None:
    with (
        sending(stack, tmp_path / "ledger.jsonl") as load,
        own_process(stack, tmp_path) as worker,
        slow_database(stack),
    ):
        worker.wait_ready()
        for _ in range(5):
            load.wait_for(50)
            end_sessions(stack)
            check_committed_is_applied(stack)
        worker.kill()
        worker.wait_end()
    check(stack, [load.ledger])


@pytest.mark.parametrize("mutation", ["ack_before_the_database", "commit_past_an_unfinished_slice"])
def test_a_commit_that_runs_ahead_of_the_effect_is_seen_and_so_is_what_it_loses(
    stack: RunningStack, tmp_path: Path, mutation: str
) -> None:
    with (
        sending(stack, tmp_path / "ledger.jsonl") as load,
        own_process(stack, tmp_path, variant=mutation) as worker,
    ):
        worker.wait_ready()
        with slow_database(stack):
            wait_until(lambda: runs_ahead(stack), timeout_s=SEEN_WITHIN_S, what="P5 to be broken")
            worker.kill()
            worker.wait_end()
        load.wait_for()
    wait_for_no_lag(stack)
    assert examine(stack, [load.ledger]).lost


def test_take_is_seen_to_lose_what_was_being_stored_when_its_worker_was_told_to_end(
    stack: RunningStack, tmp_path: Path
) -> None:
    with (
        sending(stack, tmp_path / "ledger.jsonl") as load,
        own_process(stack, tmp_path, variant="take") as worker,
    ):
        worker.wait_ready()
        with slow_database(stack):
            wait_until(lambda: worker.metric("tidegate_slice_records_count") > 0, timeout_s=60, what="a slice")
            load.wait_for()
            worker.kill(signal.SIGTERM)
            worker.wait_end()
        load.wait_for()
    wait_for_no_lag(stack)
    assert examine(stack, [load.ledger]).lost


def test_two_tasks_on_one_partition_are_seen_to_break_the_order(stack: RunningStack, tmp_path: Path) -> None:
    """One of two slices of a run fails and waits, the other goes ahead."""
    with (
        held_down(stack, "persistence"),
        sending(stack, tmp_path / "ledger.jsonl") as load,
        own_process(stack, tmp_path, variant="concurrency_2") as worker,
    ):
        worker.wait_ready()

        def order_broken() -> bool:
            end_sessions(stack)
            load.wait_for(20)
            return bool(examine(stack, [load.ledger]).out_of_order)

        wait_until(order_broken, timeout_s=SEEN_WITHIN_S, what="P2 to be broken")


def test_a_gateway_with_another_partitioner_is_seen_to_split_runs(stack: RunningStack, tmp_path: Path) -> None:
    runs = [new_run() for _ in range(RUNS)]
    ledger = tmp_path / "ledger.jsonl"
    send(stack, tmp_path, runs, seqs=range(1, 4), ledger=ledger, url=stack.addresses.gateway)
    with own_process(stack, tmp_path, "gateway", variant="crc32") as gateway:
        gateway.wait_ready()
        send(stack, tmp_path, runs, seqs=range(4, 7), ledger=ledger, url=gateway.url)
    wait_for_no_lag(stack)
    found = examine(stack, [read_ledger(ledger)])
    assert any("two partitions" in each for each in found.out_of_order)


def test_a_202_before_the_ack_is_seen_to_promise_what_is_lost(stack: RunningStack, tmp_path: Path) -> None:
    with own_process(stack, tmp_path, "gateway", variant="accepted_before_the_ack") as gateway:
        gateway.wait_ready()
        with (
            sending(stack, tmp_path / "ledger.jsonl", url=gateway.url, retry_for_s=1) as load,
            paused([stack.process("kafka").pid]),
        ):
            load.wait_for()
            gateway.kill(signal.SIGKILL)
            gateway.wait_end()
    wait_for_no_lag(stack)
    assert examine(stack, [load.ledger]).lost


def test_rows_that_are_stored_twice_without_a_unique_key_are_seen(stack: RunningStack, tmp_path: Path) -> None:
    """Comes last: the tables stay without their keys."""
    with psycopg.connect(stack.addresses.postgres, autocommit=True) as database:
        database.execute("ALTER TABLE trace_events DROP CONSTRAINT trace_events_pkey")
        database.execute("ALTER TABLE trace_events DROP CONSTRAINT trace_events_place")
        database.execute("DROP INDEX trace_events_idempotency")
    armed = {"TIDEGATE_FAILPOINT": f"{Failpoint.AFTER_COMMIT_BEFORE_OFFSET}:5"}
    with sending(stack, tmp_path / "ledger.jsonl") as load, own_process(stack, tmp_path, environ=armed) as worker:
        assert worker.wait_end() == EXIT_KILLED
    wait_for_no_lag(stack)
    found = examine(stack, [load.ledger])
    assert found.doubled
    assert not found.lost


def runs_ahead(stack: RunningStack) -> bool:
    """Return whether P5 is broken at this moment."""
    try:
        check_committed_is_applied(stack)
    except AssertionError:
        return True
    return False


def end_sessions(stack: RunningStack) -> None:
    """End what the workers are doing in Postgres."""
    with psycopg.connect(stack.addresses.postgres) as database:
        database.execute(END_SESSIONS)


def send(stack: RunningStack, folder: Path, runs: list[str], *, seqs: range, ledger: Path, url: str) -> None:
    """Send events *seqs* of each of *runs* through the gateway at *url*."""
    file = folder / f"events-{seqs.start}.jsonl"
    file.write_text("".join(json.dumps(event(seq, run_id=run_id)) + "\n" for run_id in runs for seq in seqs))
    stack.command("send", "--file", str(file), "--ledger", str(ledger), "--url", url)
