"""A group's very first worker dies before its first commit: the offsets that the group was given bring all back."""

from pathlib import Path

import pytest

from processors.runtime.failpoints import EXIT_KILLED, Failpoint
from tests.faults.checker import check, committed
from tests.faults.groups import forget_offsets, resetting
from tests.faults.load import sending
from tests.faults.processes import held_down, own_process
from tests.support.stack import RunningStack

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("point", [Failpoint.AFTER_POLL, Failpoint.BEFORE_COMMIT, Failpoint.AFTER_COMMIT_BEFORE_OFFSET])
def test_a_fresh_group_whose_first_worker_dies_before_its_first_commit_loses_nothing(
    stack: RunningStack, tmp_path: Path, point: Failpoint
) -> None:
    with sending(stack, tmp_path / "ledger.jsonl") as load:
        with held_down(stack, "persistence"):
            first = committed(stack)
            with resetting(stack, first):  # as `tidegate topics create` does for a new group
                forget_offsets(stack)
            load.wait_for()
            with own_process(stack, tmp_path, environ={"TIDEGATE_FAILPOINT": f"{point}:1"}) as worker:
                assert worker.wait_end() == EXIT_KILLED, worker.log
            assert committed(stack) == first
        load.wait_for()
    check(stack, [load.ledger])
