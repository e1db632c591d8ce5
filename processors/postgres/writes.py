"""
Transactions in Postgres, through a pool that reconnects by itself.

What an error means to a group is decided here: `Transient`, or `Poison` for a value that can never be stored.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple, Self

import psycopg
import structlog
from psycopg import AsyncConnection, errors
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from processors.runtime.errors import Transient, Unsettled
from schemas.errors import Poison, Reason
from schemas.process import migrations
from schemas.process.postgres import NoAnswer, borrowed, check_dsn

log = structlog.get_logger()

CONNECT_S = 5
TRANSACTION_S = 30.0  # without a step forward: summing a long run up may take many of them
# Every moment that is stored can be read as one of UTC; with another zone's offset some would be in the year 10000. And
# a worker that is suspended within a transaction would keep its runs locked for whoever takes its partitions over.
OPTIONS = "-c timezone=UTC -c idle_in_transaction_session_timeout=30s"
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


class Transaction(NamedTuple):
    """An open transaction."""

    connection: AsyncConnection
    goes_on: Callable[[], None]  # called at each step, it gives the next one its whole time


class PostgresWrites:
    """The sessions of one process that writes; an async context manager."""

    def __init__(self, dsn: str, *, connections_max: int, application: str) -> None:
        """
        Prepare the pool; the context opens it. Postgres shows its sessions as those of *application*.

        Raises:
            SettingsInvalid: *dsn* is not a DSN.
        """
        check_dsn(dsn)
        self._application = application
        self._pool = AsyncConnectionPool(
            dsn,
            min_size=1,
            max_size=connections_max,
            open=False,
            timeout=CONNECT_S,
            kwargs={"connect_timeout": CONNECT_S, "application_name": application, "options": OPTIONS},
        )

    async def __aenter__(self) -> Self:
        """Open the pool."""
        await self._pool.open()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Close it."""
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
            async with self.transaction() as (connection, _):
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
        async with self.transaction() as (connection, _):
            await connection.execute(REMEMBER_TOPIC, (topic, topic_id))
            row = await (await connection.execute(REMEMBERED_TOPIC, (topic,))).fetchone()
        if row is None or row[0] != topic_id:
            raise Unsettled(
                f"topic {topic} was deleted and created again, and the tables hold places of the old one: "
                "run `tidegate topics accept`"
            )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """
        Lend a connection in a transaction, which is committed at the end.

        Raises:
            Transient: Postgres is away, or rolled back.
            Poison: a value can never be stored.
            UniqueViolation: a key is taken.
        """
        try:
            async with borrowed(self._pool, within_s=TRANSACTION_S) as (connection, deadline):
                yield Transaction(connection, deadline.extend)
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
                ended = await connection.execute(END_ABANDONED, (self._application, ABANDONED_AFTER * TRANSACTION_S))
                if ended.rowcount:
                    log.warning("ended sessions that kept others waiting", count=ended.rowcount)


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
