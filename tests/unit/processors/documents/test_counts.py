"""The counts that a transaction adds to the totals."""

from typing import Any, cast

from psycopg import AsyncCursor

from processors.documents.counts import JobCounts
from schemas.documents.states import Lane, Phase


class RecordingCursor:
    """A cursor that keeps the parameters of statements."""

    def __init__(self) -> None:
        self.executed: list[list[list[Any]]] = []

    async def execute(self, _statement: str, parameters: list[list[Any]]) -> None:
        self.executed.append(parameters)


async def written(counts: JobCounts) -> list[list[list[Any]]]:
    cursor = RecordingCursor()
    await counts.write(cast("AsyncCursor[Any]", cursor))
    return cursor.executed


async def test_jobs_of_one_outcome_are_added_as_one_row() -> None:
    counts = JobCounts()
    for cost in (3, 4):
        counts.add("demo", 1, Phase.SUBMITTED, lane=Lane.HIGH, cost=cost)
    counts.add("demo", 1, Phase.STORED, lane=Lane.HIGH, cost=3)
    counts.take_back("demo", 2, Phase.FAILED, lane=Lane.LOW, cost=9)
    assert await written(counts) == [
        [["demo"] * 3, [1, 1, 2], ["submitted", "stored", "failed"], ["high", "high", "low"], [2, 1, -1], [7, 3, -9]]
    ]


def test_ends_are_told_by_their_phase() -> None:
    counts = JobCounts()
    for outcome in (Phase.SUBMITTED, Phase.SUPERSEDED, Phase.SUPERSEDED, Phase.STORED):
        counts.add("demo", 1, outcome, lane=Lane.LOW, cost=1)
    counts.take_back("demo", 1, Phase.FAILED, lane=Lane.LOW, cost=1)
    assert counts.ended == {Phase.SUPERSEDED: 2, Phase.STORED: 1}


async def test_a_corrected_cost_counts_no_job() -> None:
    counts = JobCounts()
    counts.correct("demo", 1, lane=Lane.LOW, by=-5)
    assert await written(counts) == [[["demo"], [1], ["submitted"], ["low"], [0], [-5]]]


async def test_a_transaction_without_jobs_locks_no_total() -> None:
    assert await written(JobCounts()) == []
