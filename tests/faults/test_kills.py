"""kill -9 of each process while events come in at several hundred a second: nothing accepted is lost or doubled."""

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from tests.faults.checker import check, check_committed_is_applied
from tests.faults.load import sending
from tests.support.stack import RunningStack

KILLS = 1  # `make soak` kills each many times


@pytest.mark.parametrize("name", ["gateway", "persistence", "kafka", "postgres"])
def test_a_killed_process_costs_nothing_that_was_accepted(stack: RunningStack, tmp_path: Path, name: str) -> None:
    with sending(stack, tmp_path / "ledger.jsonl") as load:
        for _ in range(KILLS):
            pid = stack.kill(name)
            stack.wait_restarted(name, pid)
            load.wait_for()
            check_committed_is_applied(stack)
    found = check(stack, [load.ledger])
    assert found.accepted >= 300 * KILLS
    assert found.rejected == 0


def test_the_checker_sees_a_lost_and_a_foreign_event(stack: RunningStack, tmp_path: Path) -> None:
    """A checker that cannot fail proves nothing."""
    with sending(stack, tmp_path / "ledger.jsonl") as load:
        pass
    known = load.ledger
    check(stack, [known])
    run_id, seq = min(known.ok)
    with psycopg.connect(stack.addresses.postgres) as database:
        database.execute("DELETE FROM trace_events WHERE run_id = %s AND seq = %s", (run_id, seq))
    with pytest.raises(AssertionError, match="P1"):
        check(stack, [known])
    fewer = replace(known, ok=known.ok - {(run_id, seq), (run_id, seq + 1)})
    with pytest.raises(AssertionError, match="P4"):
        check(stack, [fewer])
