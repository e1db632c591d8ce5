"""
The tables of the runs, written one partition slice a transaction.

Why COPY straight into the table: nearly every slice is new as a whole, and a slice that is not (redelivery after a
crash, a repeated event) fails on a unique key, is rolled back and done again with a look at what is there. That costs
a rare slice twice and every other one no staging.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Self

import psycopg
import structlog
from psycopg import AsyncConnection, errors
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from processors.runs.persistence.finalization import Summing, finalize, stored_trace, sum_up_again
from processors.runs.persistence.forgetting import forget
from processors.runs.persistence.lookup import add_stored, lock_runs
from processors.runs.persistence.removals import mark_returned
from processors.runs.persistence.rows import write, write_run_rows
from processors.runs.persistence.verdicts import StoredState, judge, may_repeat_stored
from processors.runtime.contract import Arrival, Tally
from processors.runtime.errors import Transient, Unsettled
from processors.runtime.failpoints import Failpoint, reach
from schemas.errors import Poison, Reason
from schemas.process import migrations
from schemas.process.postgres import NoAnswer, borrowed
from schemas.process.settings import SettingsInvalid
from schemas.runs.records import RunRecord, TraceRecord

log = structlog.get_logger()

CONNECT_S = 5
TRANSACTION_S = 30.0  # without a step forward: summing a long run up may take many of them
# Every moment that is stored can be read as one of UTC; with another zone's offset some would be in the year 10000. And
# a worker that is suspended within a transaction would keep its runs locked for whoever takes its partitions over.
OPTIONS = "-c timezone=UTC -c idle_in_transaction_session_timeout=30s"
APPLICATION = "tidegate-persistence"
# One that hangs within COPY is not idle, and no timeout of Postgres ends it. Whoever is kept waiting ends what has been
# at one statement for longer than any of us would wait for it.
ABANDONED_AFTER = 2  # times TRANSACTION_S
END_ABANDONED = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE usename = current_user AND application_name = %s AND pid <> pg_backend_pid()
        AND xact_start IS NOT NULL AND query_start < now() - make_interval(secs => %s)
"""

REMEMBER_TOPIC = "INSERT INTO log_topics (topic, topic_id) VALUES (%s, %s) ON CONFLICT DO NOTHING"
REMEMBERED_TOPIC = "SELECT topic_id FROM log_topics WHERE topic = %s"

# Classes of SQLSTATE (PostgreSQL, appendix A) after which the same slice may go in later: connection, rolled back,
# out of resources, operator's intervention, system error. Single codes: read-only in a failover, idle, lock.
_TRANSIENT_CLASSES = frozenset({"08", "40", "53", "57", "58"})
_TRANSIENT_STATES = frozenset({"25006", "25P03", "55P03"})
# Classes that say that a value can never be stored: data exception, limit exceeded, constraint.
_POISON_CLASSES = frozenset({"22", "54", "23"})


class Writing(Enum):
    """What is done about a record that was handled before."""

    NEW = "new"  # the live group: it was not, but for a redelivery
    MISSING = "missing"  # a replay: what is stored stays, what was rejected and is valid now is stored
    OVERWRITE = "overwrite"  # a replay: what is stored of it is written again; nothing is taken back for good


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendResult:
    """What a slice came to, and the trace records that are to be published before it counts as finished."""

    tally: Tally
    traces: Sequence[TraceRecord]


class _Transaction(NamedTuple):
    connection: AsyncConnection
    goes_on: Callable[[], None]  # called at each step, it gives the next one its whole time


class _MustLookUp(Exception):
    """The slice depends on rows that were not looked up: judge it again with them."""


class EventStore:
    """The runs' tables, through a pool that reconnects by itself."""

    def __init__(self, dsn: str, *, connections_max: int, writing: Writing = Writing.NEW) -> None:
        """Prepare the pool; the context opens it. Raises SettingsInvalid if *dsn* is not a DSN."""
        try:
            conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            # Its text quotes the DSN with the password, and the pool would log it at each attempt.
            raise SettingsInvalid("TIDEGATE_POSTGRES is not a valid PostgreSQL connection string") from None
        self._writing = writing
        self._pool = AsyncConnectionPool(
            dsn,
            min_size=1,
            max_size=connections_max,
            open=False,
            timeout=CONNECT_S,
            kwargs={"connect_timeout": CONNECT_S, "application_name": APPLICATION, "options": OPTIONS},
        )

    async def __aenter__(self) -> Self:
        await self._pool.open()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._pool.close(timeout=CONNECT_S)

    async def check_version(self) -> None:
        """
        See that the tables are those that this code writes.

        Raises:
            Transient: Postgres is away.
            Unsettled: they are of another version; the text says what to do.
        """
        newest = migrations.newest_version()
        try:
            async with self._transaction() as (connection, _):
                row = await (await connection.execute(migrations.APPLIED_VERSION)).fetchone()
        except errors.UndefinedTable:
            row = None
        if row is None or row[0] != newest:
            raise Unsettled(f"tables are at version {row and row[0]}, not {newest}: run `tidegate migrate`")

    async def check_log(self, topic: str, topic_id: str) -> None:
        """
        See that *topic* is the one whose places are stored; what is stored first is remembered.

        Raises:
            Transient: Postgres is away.
            Unsettled: it was deleted and created again; the text says what to do.
        """
        async with self._transaction() as (connection, _):
            await connection.execute(REMEMBER_TOPIC, (topic, topic_id))
            row = await (await connection.execute(REMEMBERED_TOPIC, (topic,))).fetchone()
        if row is None or row[0] != topic_id:
            raise Unsettled(
                f"topic {topic} was deleted and created again, and the tables hold places of the old one: "
                "run `tidegate topics accept`"
            )

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
            async with self._transaction() as (connection, goes_on), connection.cursor() as cursor:
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

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[_Transaction]:
        try:
            async with borrowed(self._pool, within_s=TRANSACTION_S) as (connection, deadline):
                yield _Transaction(connection, deadline.extend)
        except errors.UniqueViolation:
            raise
        except (PoolTimeout, NoAnswer) as error:
            await self._end_abandoned()
            within_s = CONNECT_S if isinstance(error, PoolTimeout) else TRANSACTION_S
            raise Transient(f"Postgres does not answer within {within_s:g} s") from error
        except psycopg.Error as error:
            raise _meaning(error) from error

    async def _end_abandoned(self) -> None:
        with suppress(psycopg.Error, PoolTimeout):  # Postgres may well be away as a whole
            async with borrowed(self._pool, within_s=CONNECT_S) as (connection, _):
                ended = await connection.execute(END_ABANDONED, (APPLICATION, ABANDONED_AFTER * TRANSACTION_S))
                if ended.rowcount:
                    log.warning("ended sessions that kept others waiting", count=ended.rowcount)


def _must_look_again(*, look_up: bool) -> Exception:
    return Transient("another worker writes the same rows") if look_up else _MustLookUp()


def _meaning(error: psycopg.Error) -> Exception:
    state = error.sqlstate
    if state is None and isinstance(error, psycopg.DataError):
        # psycopg's own: Postgres is there, and no retry mends it. Its text may quote the value.
        return Poison(Reason.NOT_STORABLE, "a value that cannot be sent to Postgres or read from it")
    if state is None or state[:2] in _TRANSIENT_CLASSES or state in _TRANSIENT_STATES:
        # Without a state the connection broke: whether it was committed is unknown, and the keys settle it.
        return Transient(f"Postgres: {error}".strip())
    if state[:2] in _POISON_CLASSES:
        # The primary message alone: the context that follows quotes the row.
        return Poison(Reason.NOT_STORABLE, f"Postgres {state}: {error.diag.message_primary}")
    return error
