"""
The tables of the runs, written one partition slice a transaction.

Why COPY straight into the table: nearly every slice is new as a whole, and a slice that is not (redelivery after a
crash, a repeated event) fails on a unique key, is rolled back and done again with a look at what is there. That costs
a rare slice twice and every other one no staging.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import structlog
from psycopg import errors

from processors.postgres.writes import PostgresWrites
from processors.runs.persistence.finalization import Summing, finalize, stored_trace, sum_up_again
from processors.runs.persistence.forgetting import forget
from processors.runs.persistence.lookup import add_stored, lock_runs
from processors.runs.persistence.removals import mark_returned
from processors.runs.persistence.rows import write, write_run_rows
from processors.runs.persistence.verdicts import StoredState, judge, may_repeat_stored
from processors.runtime.contract import Arrival, Tally
from processors.runtime.errors import Transient
from processors.runtime.failpoints import Failpoint, reach
from schemas.runs.records import RunRecord, TraceRecord

log = structlog.get_logger()


class Writing(Enum):
    """The handling of a record that was handled before."""

    NEW = "new"  # the live group: it was not, but for a redelivery
    MISSING = "missing"  # a replay: what is stored stays, what was rejected and is valid now is stored
    OVERWRITE = "overwrite"  # a replay: what is stored of it is written again; nothing is taken back for good


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendResult:
    """The outcomes of a slice, and the trace records that must be published before it counts as finished."""

    tally: Tally
    traces: Sequence[TraceRecord]


class _MustLookUp(Exception):
    """The slice depends on rows that were not looked up: judge it again with them."""


class EventStore:
    """The runs' tables."""

    def __init__(self, writes: PostgresWrites, *, writing: Writing = Writing.NEW) -> None:
        """Write by the connections of *writes*."""
        self._writes = writes
        self._writing = writing

    async def append(self, arrivals: Sequence[Arrival[RunRecord]], *, partition_count: int) -> AppendResult:
        """
        Store a slice in one transaction: each record once, in log order; its topic has *partition_count* partitions.

        Raises:
            Transient, Poison: see `Handler`.
            Unsettled: the store holds something else from these places of the log.
        """
        try:
            return await self._append(arrivals, partition_count, look_up=self._writing is Writing.OVERWRITE)
        except _MustLookUp:
            return await self._append(arrivals, partition_count, look_up=True)

    async def _append(
        self, arrivals: Sequence[Arrival[RunRecord]], partition_count: int, *, look_up: bool
    ) -> AppendResult:
        reach(Failpoint.BEFORE_TX)
        try:
            async with self._writes.transaction() as (connection, goes_on), connection.cursor() as cursor:
                locked = await lock_runs(cursor, arrivals)
                known = StoredState(
                    finalized=locked.closed,
                    rewrites=self._writing is Writing.OVERWRITE,
                    partition_count=partition_count,
                )
                if look_up:
                    await add_stored(cursor, arrivals, known)
                elif known.finalized:
                    raise _MustLookUp  # what comes for a closed run may be old
                verdicts = judge(arrivals, known)
                if not look_up and may_repeat_stored(verdicts):
                    raise _MustLookUp
                if self._writing is not Writing.NEW:
                    await forget(cursor, arrivals, verdicts, rewrites=known.rewrites)
                if await write_run_rows(cursor, verdicts) - locked.stored:
                    # Another worker has stored a new run since we looked, and may have closed it: its records are in
                    # several partitions. Look again, with its row locked.
                    raise _must_look_again(look_up=look_up)
                await write(cursor, verdicts)
                if locked.with_removed_events:
                    await mark_returned(cursor, verdicts.events, locked.with_removed_events)
                summing = Summing(connection, goes_on, partition_count)
                traces = [await finalize(summing, each) for each in verdicts.finalizations.values()]
                traces += [
                    await sum_up_again(summing, run) for run in verdicts.reopened - verdicts.finalizations.keys()
                ]
                traces += [await stored_trace(cursor, run) for run in verdicts.traces_again - verdicts.reopened]
                reach(Failpoint.BEFORE_COMMIT)
        except errors.UniqueViolation as error:
            # Another worker wrote these rows since we looked: it took the partition over.
            raise _must_look_again(look_up=look_up) from error
        if verdicts.kept:
            log.warning("stored events were kept that would be rejected now", count=verdicts.kept)
        return AppendResult(tally=verdicts.tally, traces=traces)


def _must_look_again(*, look_up: bool) -> Exception:
    return Transient("another worker writes the same rows") if look_up else _MustLookUp()
