"""Poison wherever it stands in a slice: into the dead letters with its bytes, its neighbours stored in order."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from deploy.local.development import LIMITS
from processors.runtime.limit import DeadLetterLimit
from tests.faults.checker import check_committed_is_applied, lag, wait_for_no_lag
from tests.faults.database import stored
from tests.faults.processes import held_down, page
from tests.faults.records import POISON, dead_letters, good, new_run, original_place, produce
from tests.stack import RunningStack, wait_until

G, P = True, False
SLICES = {
    "first": [P, G, G, G],
    "middle": [G, G, P, G],
    "last": [G, G, G, P],
    "every second": [P, G, P, G, P],
    "whole": [P, P, P],
}

REFUSED = 10_000
PARTITION = 5
# A fault of ours: the store refuses the events of one agent. The class (23, constraint) says poison.
REFUSE = "ALTER TABLE trace_events ADD CONSTRAINT refused CHECK (agent_id <> 'demo-agent') NOT VALID"
ADMIT = "ALTER TABLE trace_events DROP CONSTRAINT refused"
NO_LIMIT = "[dead_letters.persistence]\nconsecutive_max = 1000000\nshare_max = 1.0\n"


def test_poison_costs_none_of_its_neighbours(stack: RunningStack) -> None:
    runs = {name: new_run() for name in SLICES}
    with held_down(stack, "persistence"):  # so that each run is one slice
        for partition, (name, kinds) in enumerate(SLICES.items()):
            values = [good(stack, runs[name], 1 + sum(kinds[:at])) if kinds[at] else POISON for at in range(len(kinds))]
            produce(stack, runs[name], values, partition=partition)

    def settled() -> bool:
        found = [(len(stored(stack, run_id)), len(dead_letters(stack, run_id))) for run_id in runs.values()]
        return found == [(kinds.count(G), kinds.count(P)) for kinds in SLICES.values()]

    wait_until(settled, timeout_s=60, what="every record to be stored or dead-lettered")
    for name, kinds in SLICES.items():
        letters = dead_letters(stack, runs[name])
        assert {letter.value() for letter in letters} == {POISON}, name
        first = original_place(letters[0])[1] - kinds.index(P)
        assert [original_place(letter)[1] - first for letter in letters] == [
            place for place, kind in enumerate(kinds) if kind is P
        ], name
        assert stored(stack, runs[name]) == list(range(1, kinds.count(G) + 1)), name


def test_a_topic_of_nothing_but_poison_stops_at_the_limit_and_goes_on_when_it_is_raised(stack: RunningStack) -> None:
    run_id, other = new_run(), new_run()
    most = DeadLetterLimit().consecutive_max
    produce(stack, run_id, [POISON] * (3 * most), partition=PARTITION)
    wait_until(lambda: "dead-letter limit" in readiness(stack), timeout_s=60, what="the limit to be reached")
    produce(stack, other, [good(stack, other, 1)], partition=PARTITION - 1)
    wait_until(lambda: stored(stack, other) == [1], timeout_s=30, what="another partition to go on")
    assert len(dead_letters(stack, run_id)) == most
    assert lag(stack) >= 2 * most
    with without_limit(stack):
        wait_until(lambda: len(dead_letters(stack, run_id)) == 3 * most, timeout_s=60, what="the lane to go on")
        wait_for_no_lag(stack)
    assert json.loads(readiness(stack))["status"] == "ready"


def readiness(stack: RunningStack) -> str:
    """What persistence says of itself."""
    return page(stack.addresses.management["persistence"], "/readyz")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_ten_thousand_dead_letters_are_stored_once_each_after_a_fix(stack: RunningStack) -> None:
    runs = [new_run() for _ in range(REFUSED // 100)]
    with psycopg.connect(stack.addresses.postgres, autocommit=True) as database, without_limit(stack):
        database.execute(REFUSE)
        try:
            for run_id in runs:
                produce(stack, run_id, [good(stack, run_id, seq) for seq in range(1, 101)], partition=PARTITION)
            wait_for_no_lag(stack)
        finally:
            database.execute(ADMIT)
        counted = "SELECT count(*), count(DISTINCT (run_id, seq)) FROM trace_events WHERE run_id = ANY(%s)"
        assert database.execute(counted, (runs,)).fetchone() == (0, 0)
        answer = json.loads(stack.command("dlq", "redrive", "--reason", "not_storable", "--yes", "--json"))
        assert (answer["redriven"], answer["lag_records"]) == (REFUSED, 0)
        assert database.execute(counted, (runs,)).fetchone() == (REFUSED, REFUSED)
    assert all(stored(stack, run_id) == list(range(1, 101)) for run_id in runs)
    assert json.loads(stack.command("dlq", "list", "--reason", "not_storable", "--json"))["waiting"] == 0
    check_committed_is_applied(stack)


@contextmanager
def without_limit(stack: RunningStack) -> Iterator[None]:
    """Let any number of records be poison, as a person who knows the cause would."""
    limits = stack.folder / LIMITS
    kept = limits.read_text()
    limits.write_text(NO_LIMIT)
    try:
        yield
    finally:
        limits.write_text(kept)
