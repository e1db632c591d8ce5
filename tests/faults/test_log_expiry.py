"""Records expire unprocessed, or an offset is missing: the worker stops and says so, and skips nothing."""

import json
from pathlib import Path

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tests.faults.checker import GROUP, check, committed, wait_for_no_lag
from tests.faults.database import stored
from tests.faults.groups import forget_offsets, resetting, wait_for_every_group
from tests.faults.processes import OwnProcess, held_down, own_process
from tests.faults.records import WITHIN_S, good, new_run, produce
from tests.support.stack import RunningStack

EXIT_UNSETTLED = 70
STOPS_WITHIN_S = 20.0
PARTITION = 5
SENT = 4
EXPIRED = 2


def test_a_worker_whose_records_have_expired_stops_until_a_person_says_where_to_go_on(
    stack: RunningStack, tmp_path: Path
) -> None:
    run_id = new_run()
    wait_for_no_lag(stack)  # what expires is to be ours
    with held_down(stack, "persistence"):
        start = committed(stack)[PARTITION]
        produce(stack, run_id, [good(stack, run_id, seq) for seq in range(1, SENT + 1)], partition=PARTITION)
        oldest = start + EXPIRED
        wait_for_every_group(stack, but=GROUP.name)
        with resetting(stack, {PARTITION: oldest}):
            expire(stack, before=oldest)
            with own_process(stack, tmp_path) as worker:
                assert_stops(worker, because="records that this group has not processed have expired")
            assert committed(stack)[PARTITION] == start
            assert stored(stack, run_id) == []
            assert expired(stack) == {PARTITION: EXPIRED}
    check(stack, [])
    assert stored(stack, run_id) == [3, 4]
    assert expired(stack) == {}


def test_a_worker_of_a_group_without_offsets_stops_instead_of_guessing(stack: RunningStack, tmp_path: Path) -> None:
    run_id = new_run()
    with held_down(stack, "persistence"):
        start = committed(stack)
        produce(stack, run_id, [good(stack, run_id, 1)], partition=PARTITION)
        with resetting(stack, start):
            forget_offsets(stack)
            with own_process(stack, tmp_path) as worker:
                assert_stops(worker, because="the group has no committed offset")
            assert all(offset < 0 for offset in committed(stack).values())
            assert stored(stack, run_id) == []
    check(stack, [])
    assert stored(stack, run_id) == [1]


def assert_stops(worker: OwnProcess, *, because: str) -> None:
    """Demand the exit code, and the one line that a person is to see."""
    assert worker.wait_end(STOPS_WITHIN_S) == EXIT_UNSETTLED, worker.log
    critical = [line for line in worker.log.splitlines() if '"critical"' in line]
    assert len(critical) == 1, worker.log
    assert because in critical[0]


def expire(stack: RunningStack, *, before: int) -> None:
    """Delete the partition's records below an offset, as retention does."""
    admin = AdminClient({"bootstrap.servers": stack.addresses.kafka})
    place = TopicPartition(GROUP.source.name, PARTITION, before)
    assert admin.delete_records([place])[place].result(WITHIN_S).low_watermark == before


def expired(stack: RunningStack) -> dict[int, int]:
    """
    Return how many records of each partition the group will never see, as `tidegate lag` says; the others are left out.
    """
    places = json.loads(stack.command("lag", "--json"))
    return {place["partition"]: place["expired"] for place in places if place["expired"]}
