"""Workers end, fail, join, leave and come back from the dead: every event is stored once, each run in its order."""

import signal
from pathlib import Path

import pytest

from tests.faults.checker import applied, check, check_committed_is_applied, committed, wait_for_progress
from tests.faults.database import slow_database
from tests.faults.load import sending
from tests.faults.processes import for_a_while, held_down, own_process
from tests.support.stack import RunningStack, wait_until

EXIT_UNSETTLED = 70


def test_a_worker_that_is_told_to_end_commits_all_that_it_applied(stack: RunningStack, tmp_path: Path) -> None:
    with sending(stack, tmp_path / "ledger.jsonl") as load:
        with held_down(stack, "persistence", signal.SIGTERM):
            reached = {partition: offset + 1 for partition, offset in applied(stack).items()}
            assert reached == {partition: offset for partition, offset in committed(stack).items() if offset > 0}
        load.wait_for()
    check(stack, [load.ledger])
    assert "persistence exited with code 0 and starts again" in (stack.folder / "up.log").read_text()


def test_an_error_in_the_handler_ends_the_worker_and_skips_nothing(stack: RunningStack, tmp_path: Path) -> None:
    with (
        sending(stack, tmp_path / "ledger.jsonl") as load,
        own_process(stack, tmp_path, variant="raising") as worker,
    ):
        assert worker.wait_end() == EXIT_UNSETTLED
        assert "a bug in the handler" in worker.log
        check_committed_is_applied(stack)
        load.wait_for()
    check(stack, [load.ledger])


@pytest.mark.parametrize("times", [1, pytest.param(12, marks=[pytest.mark.soak, pytest.mark.timeout(600)])])
def test_a_worker_that_joins_and_leaves_under_load_keeps_each_run_in_order(
    stack: RunningStack, tmp_path: Path, times: int
) -> None:
    with sending(stack, tmp_path / "ledger.jsonl") as load:
        for _ in range(times):
            with own_process(stack, tmp_path) as worker:
                worker.wait_ready()
                for_a_while(5 if times > 1 else 1)
                worker.kill(signal.SIGTERM)
                assert worker.wait_end() == 0, worker.log
            for_a_while(5 if times > 1 else 0)
            check_committed_is_applied(stack)
        load.wait_for()
    check(stack, [load.ledger])


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_worker_that_wakes_in_its_transaction_after_others_took_over_changes_nothing(
    stack: RunningStack, tmp_path: Path
) -> None:
    with sending(stack, tmp_path / "ledger.jsonl") as load, own_process(stack, tmp_path) as zombie:
        zombie.wait_ready()
        with slow_database(stack):
            load.wait_for()
            zombie.kill(signal.SIGSTOP)
            wait_for_progress(stack)
        passed, accepted = committed(stack), load.accepted()
        zombie.kill(signal.SIGCONT)

        def goes_on_without_a_step_back() -> bool:
            now = committed(stack)
            assert all(now[each] >= offset for each, offset in passed.items()), "a zombie's commit was taken"
            passed.update(now)
            return load.accepted() > accepted + 2000

        wait_until(goes_on_without_a_step_back, timeout_s=60, what="events to come in beside the one that woke")
        check_committed_is_applied(stack)
    check(stack, [load.ledger])


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_broker_that_rests_for_90_s_costs_nothing(stack: RunningStack, tmp_path: Path) -> None:
    with sending(stack, tmp_path / "ledger.jsonl", retry_for_s=180) as load:
        pid = stack.kill("kafka", signal.SIGSTOP)
        try:
            for_a_while(90)
        finally:
            stack.kill("kafka", signal.SIGCONT)
        assert stack.process("kafka").pid == pid
        load.wait_for()
    check(stack, [load.ledger])
