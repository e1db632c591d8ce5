"""
Bounded waits for Postgres; a session that has failed is never used again.

A deadline shuts the socket down instead of cancelling the task: on cancellation psycopg asks the server to cancel
the statement and waits up to 10 s for its answer, which a server that is frozen or cut off never gives. A socket that
is shut down ends the wait at once, with the error of a lost connection, and the pool replaces the connection.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import Row
from psycopg_pool import AsyncConnectionPool

from schemas.process.settings import SettingsInvalid

CHECK_S = 1.0  # for an idle connection to prove that it is alive

# SQLSTATEs after which a session is as good as before (PostgreSQL, appendix A): the statement was wrong, was rolled
# back, or took too long. Anything else may be the session's own state: read-only since a failover (25006), a prepared
# statement that is gone (26000) or out of date (0A000), a setting of its role that has changed since.
_SOUND_CLASSES = frozenset({"21", "22", "23", "40", "54"})
_SOUND_STATES = frozenset({"55P03", "57014"})

Connection = TypeVar("Connection", bound=AsyncConnection[Any])
Result = TypeVar("Result")


def check_dsn(dsn: str) -> None:
    """Raise SettingsInvalid unless *dsn*, the value of TIDEGATE_POSTGRES, is a connection string."""
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # Its text quotes the DSN with the password, and the pool would log it at each attempt.
        raise SettingsInvalid("TIDEGATE_POSTGRES is not a valid PostgreSQL connection string") from None


class NoAnswer(psycopg.OperationalError):
    """Postgres did not answer within our time. Whether it did what was asked is unknown."""


class Deadline:
    """A deadline that cuts a connection off when its time is over."""

    def __init__(self, connection: AsyncConnection[Any], within_s: float) -> None:
        """Start the clock."""
        self.passed = False
        self._connection = connection
        self._within_s = within_s
        self._timer = asyncio.get_running_loop().call_later(within_s, self._cut_off)

    def extend(self) -> None:
        """Give the next step the whole time again."""
        self.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._within_s, self._cut_off)

    def cancel(self) -> None:
        """Stop the clock."""
        self._timer.cancel()

    def _cut_off(self) -> None:
        self.passed = True
        cut_off(self._connection)


def cut_off(connection: AsyncConnection[Any]) -> None:
    """Shut the connection's socket down: whoever waits for an answer on it gets an OperationalError."""
    gone = suppress(psycopg.OperationalError, OSError)  # it is closed already
    with gone, socket.socket(fileno=os.dup(connection.pgconn.socket)) as doomed:
        doomed.shutdown(socket.SHUT_RDWR)


def is_sound_after(error: psycopg.Error) -> bool:
    """Return True if the session that raised *error* may be used again."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.DataError)  # psycopg's own: nothing was sent, or all of it was read
    return state[:2] in _SOUND_CLASSES or state in _SOUND_STATES


@asynccontextmanager
async def borrowed(
    pool: AsyncConnectionPool[Connection], *, within_s: float
) -> AsyncIterator[tuple[Connection, Deadline]]:
    """
    Lend a connection of *pool* for *within_s*, commit or roll back included; `Deadline.extend` gives more time.

    A connection on which something went wrong that may be its own fault is closed, and the pool replaces it.

    Raises:
        PoolTimeout: there was no connection within the pool's own timeout.
        NoAnswer: the time is over.
    """
    connection = await pool.getconn()
    deadline = Deadline(connection, within_s)
    try:
        async with connection:  # one of a pool: this ends the transaction and leaves the connection open
            yield connection, deadline
    except psycopg.Error as error:
        if deadline.passed:
            raise NoAnswer(f"Postgres does not answer within {within_s:g} s") from error
        if not is_sound_after(error):
            await connection.close()
        raise
    finally:
        deadline.cancel()
        await pool.putconn(connection)


async def check_alive(connection: AsyncConnection[Any]) -> None:
    """Check that an idle connection is alive, as a pool's `check`; raise an OperationalError after `CHECK_S`."""
    deadline = Deadline(connection, CHECK_S)
    try:
        await AsyncConnectionPool.check_connection(connection)
    finally:
        deadline.cancel()


class BoundedConnection(AsyncConnection[Row]):
    """A connection on which each answer must come within `answer_s`; for sessions that belong to no pool."""

    answer_s = 30.0

    async def wait(self, gen: PQGen[Result], interval: float = 0.1, timeout: float | None = None) -> Result:  # noqa: ASYNC109 - psycopg's
        """Wait for one answer. Raises NoAnswer when the time is over."""
        deadline = Deadline(self, self.answer_s)
        try:
            return await super().wait(gen, interval, timeout)
        except psycopg.Error as error:
            if deadline.passed:
                raise NoAnswer(f"Postgres does not answer within {self.answer_s:g} s") from error
            raise
        finally:
            deadline.cancel()
