"""kill -9 of each process while events come in at several hundred a second: nothing accepted is lost or doubled."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.faults.checker import check, check_committed_is_applied, read_ledger
from tests.stack import RunningStack, wait_until

KILLS = 2


@contextmanager
def sending(stack: RunningStack, ledger: Path) -> Iterator[None]:
    """Run `tidegate send` beside the test, about 400 events a second over 40 runs."""
    sender = subprocess.Popen(
        [
            sys.executable, "-m", "deploy.cli.app", "send", "--dir", str(stack.folder), "--burst", "0",
            "--rate", "20", "--workers", "20", "--runs", "40", "--ledger", str(ledger), "--json",
        ],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for_events(ledger)
        yield
    finally:
        sender.terminate()
        sender.wait(timeout=60)


def wait_for_events(ledger: Path, *, more: int = 300) -> None:
    """Wait until *more* events were accepted than now."""

    def accepted() -> int:
        return ledger.read_text().count('"ok"') if ledger.exists() else 0

    start = accepted()
    wait_until(lambda: accepted() >= start + more, timeout_s=90, what="events to be accepted again")


@pytest.mark.parametrize("name", ["gateway", "persistence", "kafka", "postgres"])
def test_a_killed_process_costs_nothing_that_was_accepted(stack: RunningStack, tmp_path: Path, name: str) -> None:
    ledger = tmp_path / "ledger.jsonl"
    with sending(stack, ledger):
        for _ in range(KILLS):
            pid = stack.kill(name)
            stack.wait_restarted(name, pid)
            wait_for_events(ledger)
            check_committed_is_applied(stack)
    counts = check(stack, [read_ledger(ledger)])
    assert counts["accepted"] >= 300 * KILLS
    assert counts["rejected"] == 0


def test_the_checker_sees_a_lost_and_a_foreign_event(stack: RunningStack, tmp_path: Path) -> None:
    """A checker that cannot fail proves nothing."""
    ledger = tmp_path / "ledger.jsonl"
    with sending(stack, ledger):
        pass
    known = read_ledger(ledger)
    check(stack, [known])
    run_id, seq = min(known.ok)
    with psycopg.connect(stack.addresses.postgres) as database:
        database.execute("DELETE FROM trace_events WHERE run_id = %s AND seq = %s", (run_id, seq))
    with pytest.raises(AssertionError, match="P1"):
        check(stack, [known])
    fewer = read_ledger(ledger)
    object.__setattr__(fewer, "ok", fewer.ok - {(run_id, seq), (run_id, seq + 1)})
    with pytest.raises(AssertionError, match="P4"):
        check(stack, [fewer])
