"""Poison wherever it stands in a slice: into the dead letters with its bytes, its neighbours stored in order."""

import psycopg

from tests.faults.processes import held_down
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


def stored(stack: RunningStack, run_id: str) -> list[int]:
    """The seqs of a run in the order of the log."""
    with psycopg.connect(stack.addresses.postgres) as database:
        rows = database.execute("SELECT seq FROM trace_events WHERE run_id = %s ORDER BY kafka_offset", (run_id,))
        return [seq for (seq,) in rows]
