"""
Reads of Postgres, shared by the stores of all features.

Sessions are read-only by their setting. Each wait for a connection and each use of one is bounded on this side too, so
that a Postgres that is away or frozen costs a reader seconds and an ingester nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, LiteralString, Self

import psycopg
import structlog
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from gateway.errors import StoreUnavailable
from schemas.process.migrations import APPLIED_VERSION, newest_version
from schemas.process.postgres import borrowed, check_alive, check_dsn, is_sound_after

CONNECTIONS_MAX = 8
CONNECTION_WAIT_S = 2.0
CONNECT_TIMEOUT_S = 2
STATEMENT_TIMEOUT_MS = 5000
READ_TIMEOUT_S = 7.0  # of one read, its connection in hand: a Postgres that answers ends a statement sooner by itself
URGENT_CONNECTIONS_MAX = 2  # so that slow reads of many rows do not keep events from their place
# Of an urgent read: together less than the time that the sequencer has for it, so that none is cancelled half-way.
URGENT_WAIT_S = 0.5
URGENT_TIMEOUT_S = 1.25
FRESH_S = 1.0  # how long a probe relies on the last read
PROBE_S = 0.5  # a probe answers within a second, Postgres or not: orchestrators wait no longer
# UTC: with another zone's offset some moments that are stored would be in the year 10000.
OPTIONS = f"-c timezone=UTC -c default_transaction_read_only=on -c statement_timeout={STATEMENT_TIMEOUT_MS}"

_OURS = "42"  # the class of SQLSTATE of wrong statements and missing rights: not the session's fault

Connection = psycopg.AsyncConnection[dict[str, Any]]

log = structlog.get_logger()


class TablesNotMigrated(StoreUnavailable):
    """The tables are not of the version that this code reads. Run `tidegate migrate`."""


class PostgresReads:
    """Pools of read-only connections; an async context manager that opens even while Postgres is away."""

    def __init__(self, dsn: str) -> None:
        """
        Prepare; nothing is opened before the context is entered.

        Raises:
            SettingsInvalid: *dsn* is not a DSN.
        """
        check_dsn(dsn)
        self._reads = _pool(dsn, name="reads", connections_max=CONNECTIONS_MAX, wait_s=CONNECTION_WAIT_S)
        self._urgent_reads = _pool(dsn, name="urgent", connections_max=URGENT_CONNECTIONS_MAX, wait_s=URGENT_WAIT_S)
        self._migrated = False
        self._available = False
        self._looked_at_s = float("-inf")
        self._probe: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start connecting in the background."""
        for pool in (self._reads, self._urgent_reads):
            await pool.open(wait=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        if self._probe is not None:
            await asyncio.wait({self._probe})  # bounded by itself
        for pool in (self._reads, self._urgent_reads):
            await pool.close()

    async def answers(self) -> bool:
        """Return True if Postgres answered within the last second, or does so now; takes at most half of one."""
        if monotonic() - self._looked_at_s <= FRESH_S:
            return self._available
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._try_connection())
        answered, _ = await asyncio.wait({self._probe}, timeout=PROBE_S)
        return bool(answered) and self._available

    async def _try_connection(self) -> None:
        with suppress(StoreUnavailable):
            async with self.connection(urgent=True):
                pass

    async def check_tables(self) -> None:
        """
        Compare the tables' version with the code's.

        Raises:
            TablesNotMigrated: do not start.
            StoreUnavailable: Postgres is away; the version is checked before the first read.
        """
        async with self.connection():
            pass

    @asynccontextmanager
    async def connection(self, *, urgent: bool = False) -> AsyncIterator[Connection]:
        """
        Lend a connection for one read. An *urgent* read is short, and waits behind no other kind.

        Raises:
            StoreUnavailable: Postgres is away, slow, or not migrated. Answer 503.
        """
        pool, within_s = (self._urgent_reads, URGENT_TIMEOUT_S) if urgent else (self._reads, READ_TIMEOUT_S)
        try:
            async with borrowed(pool, within_s=within_s) as (connection, _):
                if not self._migrated:
                    await _check_version(connection)
                    self._migrated = True
                yield connection
        except (psycopg.OperationalError, PoolTimeout) as error:
            self._unavailable(error)
            raise StoreUnavailable("what is stored cannot be read now; events are still accepted") from error
        except psycopg.Error as error:
            if is_sound_after(error) or (error.sqlstate or "").startswith(_OURS):
                raise
            # The session has gone bad and is closed: the next read gets another.
            self._unavailable(error)
            raise StoreUnavailable("what is stored could not be read; try again") from error
        self._available = True
        self._looked_at_s = monotonic()

    async def row(
        self, statement: LiteralString, parameters: Mapping[str, Any], *, urgent: bool = False
    ) -> dict[str, Any] | None:
        """Return the first row of a read, if it has one. Raises StoreUnavailable, as `connection` does."""
        async with self.connection(urgent=urgent) as connection:
            return await (await connection.execute(statement, parameters)).fetchone()

    async def rows(self, statement: LiteralString, parameters: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
        """Return the rows of a read. Raises StoreUnavailable, as `connection` does."""
        async with self.connection() as connection:
            return await (await connection.execute(statement, parameters)).fetchall()

    def _unavailable(self, error: Exception) -> None:
        if self._available:
            log.warning("Postgres does not answer", error=str(error))
        self._available = False
        self._looked_at_s = monotonic()


def _pool(dsn: str, *, name: str, connections_max: int, wait_s: float) -> AsyncConnectionPool[Connection]:
    return AsyncConnectionPool(
        dsn,
        kwargs={
            "autocommit": True,
            "row_factory": dict_row,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": OPTIONS,
        },
        min_size=1,
        max_size=connections_max,
        timeout=wait_s,
        check=check_alive,  # a restarted Postgres must not fail the first read after it
        open=False,
        name=name,
    )


async def _check_version(connection: Connection) -> None:
    try:
        row = await (await connection.execute(APPLIED_VERSION)).fetchone()
    except psycopg.errors.UndefinedTable:
        row = None
    applied = row and row["max"]
    if applied != newest_version():
        raise TablesNotMigrated(
            f"the tables are at version {applied}, this gateway reads {newest_version()}: run `tidegate migrate`"
        )
