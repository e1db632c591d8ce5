"""A worker dies at each step between fetch and commit, and another one goes on where its offsets say."""

import asyncio
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from signal import SIGTERM

import aiohttp
import psycopg
import pytest

from processors.runtime.failpoints import EXIT_KILLED, Failpoint
from schemas.kafka.topics import Topic
from schemas.runs.topics import PERSISTENCE, RUN_TRACES
from tests.faults.checker import check, check_committed_is_applied
from tests.faults.load import sending
from tests.faults.processes import OwnProcess, held_down, own_process
from tests.faults.records import POISON, new_run, produce
from tests.support.log import read_topic
from tests.support.stack import RunningStack, wait_until

PARTITIONS = 8
RUNS = 24  # so that some lie in the partitions of either worker
STEPS_OF_EVERY_SLICE = [
    Failpoint.AFTER_POLL,
    Failpoint.BEFORE_TX,
    Failpoint.BEFORE_COMMIT,
    Failpoint.AFTER_COMMIT_BEFORE_OFFSET,
    Failpoint.AFTER_OFFSET,
]
STEPS_OF_EVERY_BATCH = [
    Failpoint.AFTER_GATHER,
    Failpoint.AFTER_CUT,
    Failpoint.BEFORE_COMMIT,
    Failpoint.AFTER_COMMIT_BEFORE_OFFSET,
    Failpoint.AFTER_OFFSET,
]
WRITES = [Failpoint.BEFORE_TRACE, Failpoint.BEFORE_DLQ_ACK]


def test_workers_that_die_at_each_step_cost_nothing(stack: RunningStack, tmp_path: Path) -> None:
    with ExitStack() as running:
        workers = {point: running.enter_context(dying(stack, tmp_path, point)) for point in STEPS_OF_EVERY_SLICE}
        for worker in workers.values():
            worker.wait_ready()
        with sending(stack, tmp_path / "ledger.jsonl") as load:
            for worker in workers.values():
                assert worker.wait_end() == EXIT_KILLED, worker.log
            check_committed_is_applied(stack)
    assert check(stack, [load.ledger]).rejected == 0


def test_workers_that_gather_and_die_at_each_step_cost_nothing(stack: RunningStack, tmp_path: Path) -> None:
    with held_down(stack, "persistence"), ExitStack() as running:
        workers = {point: running.enter_context(gathering(stack, tmp_path, point)) for point in STEPS_OF_EVERY_BATCH}
        for worker in workers.values():
            worker.wait_ready()
        with sending(stack, tmp_path / "ledger.jsonl") as load:
            for worker in workers.values():
                assert worker.wait_end() == EXIT_KILLED, worker.log
            last = running.enter_context(own_process(stack, tmp_path, variant="gathering"))
            last.wait_ready()
            load.wait_for()
            last.kill(SIGTERM)
            assert last.wait_end() == 0, last.log
            check_committed_is_applied(stack)
    assert check(stack, [load.ledger]).rejected == 0


def test_what_a_worker_was_writing_to_the_log_when_it_died_is_written(stack: RunningStack, tmp_path: Path) -> None:
    runs, poisoned = [new_run() for _ in range(RUNS)], [new_run() for _ in range(PARTITIONS)]
    with (
        dying(stack, tmp_path, Failpoint.BEFORE_TRACE) as tracing,
        dying(stack, tmp_path, Failpoint.BEFORE_DLQ_ACK) as burying,
    ):
        tracing.wait_ready()
        burying.wait_ready()
        asyncio.run(finalize(stack, runs))
        for partition, run_id in enumerate(poisoned):
            produce(stack, run_id, [POISON], partition=partition)
        assert (tracing.wait_end(), burying.wait_end()) == (EXIT_KILLED, EXIT_KILLED)
    wait_until(lambda: keys(stack, RUN_TRACES) >= set(runs), timeout_s=60, what="a trace record of each run")
    dead = PERSISTENCE.dead_letters
    wait_until(lambda: keys(stack, dead) >= set(poisoned), timeout_s=60, what="a dead letter of each run")
    with psycopg.connect(stack.addresses.postgres) as database:
        stored = database.execute("SELECT count(*) FROM trace_records WHERE run_id = ANY(%s)", (runs,)).fetchone()
    assert stored == (RUNS,)


@pytest.mark.parametrize("variant", ["gateway_dies_before_a_report", "gateway_dies_after_a_report"])
def test_a_gateway_that_dies_beside_a_delivery_report_has_promised_nothing_that_is_lost(
    stack: RunningStack, tmp_path: Path, variant: str
) -> None:
    with own_process(stack, tmp_path, "gateway", variant=variant) as gateway:
        gateway.wait_ready()
        with sending(stack, tmp_path / "ledger.jsonl", url=gateway.url, retry_for_s=0) as load:
            assert gateway.wait_end() == EXIT_KILLED, gateway.log
    check(stack, [load.ledger])


def dying(stack: RunningStack, folder: Path, point: Failpoint) -> AbstractContextManager[OwnProcess]:
    return own_process(stack, folder, environ={"TIDEGATE_FAILPOINT": f"{point}:{1 if point in WRITES else 5}"})


def gathering(stack: RunningStack, folder: Path, point: Failpoint) -> AbstractContextManager[OwnProcess]:
    return own_process(stack, folder, variant="gathering", environ={"TIDEGATE_FAILPOINT": f"{point}:5"})


async def finalize(stack: RunningStack, runs: list[str]) -> None:
    async with aiohttp.ClientSession(stack.addresses.gateway, headers={"X-API-Key": stack.addresses.api_key}) as http:
        for run_id in runs:
            async with http.post(f"/api/runs/{run_id}/finalize", json={"status": "succeeded"}) as answer:
                assert answer.status == 202, await answer.text()


def keys(stack: RunningStack, topic: Topic) -> set[str]:
    """Return the runs that the records of *topic* speak of."""
    return {(record.key() or b"").decode().rpartition("/")[2] for record in read_topic(stack, topic)}
