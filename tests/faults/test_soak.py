"""
Random faults for as long as SOAK_MINUTES says (30), under load: none lost, none doubled, none out of order.

SOAK_SEED repeats the order of an earlier run's faults; the report goes to SOAK_REPORT, with its figures as JSON beside
it, or to the output.
"""

import json
import os
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from secrets import randbelow
from time import monotonic

import pytest

from tests.faults.checker import RECOVERY_S, check_committed_is_applied, examine, wait_for_no_lag, wait_for_progress
from tests.faults.load import sending
from tests.faults.processes import for_a_while
from tests.faults.random_faults import FAULTS, LOG_FAULTS
from tests.support.stack import RunningStack

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
BETWEEN_S = (10.0, 20.0)
EVENTS_PER_S = 10  # of each worker of the load
END_S = 900  # beyond the faults' time: the last fault, its recovery and the check


@dataclass(kw_only=True)
class Report:
    """What a soak did and what came of it."""

    seed: int
    minutes: float
    faults: dict[str, int] = field(default_factory=dict)
    longest_recovery_s: float = 0.0
    longest_recovery_after: str = ""
    events: dict[str, int] = field(default_factory=dict)
    attempts_failed: dict[str, int] = field(default_factory=dict)  # by code, each tried again

    def markdown(self) -> str:
        """Return the report as two tables."""
        figures = {
            "length": f"{self.minutes:g} minutes",
            "faults injected": sum(self.faults.values()),
            **{f"events {name}": f"{count:,}" for name, count in self.events.items()},
            "longest recovery": f"{self.longest_recovery_s:.1f} s, after {self.longest_recovery_after}",
            "attempts that failed and were repeated": sum(self.attempts_failed.values()),
            "seed": self.seed,
        }
        return "\n".join(
            [
                *("| figure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in figures.items()), ""),
                *("| fault | times |", "|---|---|", *(f"| {name} | {n} |" for name, n in sorted(self.faults.items()))),
                "",
            ]
        )


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + END_S)
def test_random_faults_under_load_cost_nothing(stack: RunningStack, tmp_path: Path) -> None:
    seed = int(os.environ.get("SOAK_SEED") or randbelow(2**32))
    print(f"SOAK_SEED={seed}")  # noqa: T201
    drawn, report = random.Random(seed), Report(seed=seed, minutes=MINUTES)
    until_s = monotonic() + MINUTES * 60
    with sending(stack, tmp_path / "ledger.jsonl", rate=EVENTS_PER_S, retry_for_s=RECOVERY_S) as load:
        for name in faults_in_turn(drawn):
            for_a_while(drawn.uniform(*BETWEEN_S))
            if monotonic() > until_s:
                break
            if name in LOG_FAULTS:
                cleared_s = LOG_FAULTS[name](stack, load, drawn)
            else:
                cleared_s = FAULTS[name](stack, tmp_path, drawn)
            wait_for_recovery(stack)
            load.wait_for(20)
            check_committed_is_applied(stack)
            note(report, name, recovery_s=monotonic() - cleared_s)
    report.attempts_failed = load.summary["errors"]
    wait_for_no_lag(stack)
    found = examine(stack, [load.ledger])
    report.events = {
        "sent": found.sent,
        "accepted": found.accepted,
        "stored": found.stored,
        "lost": len(found.lost),
        "doubled": len(found.doubled),
        "out of order": len(found.out_of_order),
        "rejected": found.rejected,
    }
    publish(report)
    found.demand()
    check_committed_is_applied(stack)
    assert found.rejected == 0


def faults_in_turn(drawn: random.Random) -> Iterator[str]:
    """Yield every fault once in a random order, and again in another."""
    while True:
        names = sorted((*FAULTS, *LOG_FAULTS))
        yield from drawn.sample(names, len(names))


def wait_for_recovery(stack: RunningStack) -> None:
    """Wait until everything is ready and the group has passed what lay in the log by then."""
    for service in ("kafka", "postgres", "gateway", "persistence"):
        stack.wait_ready(service)
    wait_for_progress(stack)


def note(report: Report, name: str, *, recovery_s: float) -> None:
    print(f"{name}: recovered after {recovery_s:.1f} s")  # noqa: T201
    report.faults[name] = report.faults.get(name, 0) + 1
    if recovery_s > report.longest_recovery_s:
        report.longest_recovery_s, report.longest_recovery_after = recovery_s, name


def publish(report: Report) -> None:
    path = os.environ.get("SOAK_REPORT")
    if path is None:
        print(report.markdown())  # noqa: T201
        return
    Path(path).write_text(report.markdown())
    Path(path).with_suffix(".json").write_text(json.dumps(asdict(report), indent=2))
