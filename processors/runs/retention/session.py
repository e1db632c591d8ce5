"""A session on the tables in the role tidegate_maintain: opened for a pass, bounded in time, and its failures named."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from processors.runtime.errors import Transient, Unsettled
from schemas.process import migrations
from schemas.process.postgres import BoundedConnection

CONNECT_S = 5
# Of each statement; the largest run is deleted by one.
STATEMENT_S = 600
ANSWER_S = STATEMENT_S + 30.0  # on this side; a Postgres that answers ends a statement sooner by itself
OPTIONS = (
    f"-c timezone=UTC -c statement_timeout={STATEMENT_S}s -c lock_timeout=5s"
    " -c idle_in_transaction_session_timeout=120s"
)

Connection = AsyncConnection[dict[str, Any]]


class _Connection(BoundedConnection[dict[str, Any]]):
    answer_s = ANSWER_S


@asynccontextmanager
async def session(dsn: str) -> AsyncIterator[Connection]:
    """
    Yield a connection that commits each statement outside a transaction.

    Raises:
        Transient: Postgres is away or refuses: what was committed stays, the rest is done by a later pass.
        Unsettled: the tables are of another version; the text says what to do.
    """
    try:
        connection = await _Connection.connect(
            dsn,
            autocommit=True,
            connect_timeout=CONNECT_S,
            application_name="tidegate-maintenance",
            options=OPTIONS,
            row_factory=dict_row,
        )
        async with connection:
            await _check_version(connection)
            yield connection
    except psycopg.Error as error:
        raise Transient(f"Postgres: {error}".strip()) from error


async def _check_version(connection: Connection) -> None:
    try:
        row = await (await connection.execute(migrations.APPLIED_VERSION)).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
        row = None
    if row is None or row["max"] != migrations.newest_version():
        raise Unsettled(
            f"tables are at version {row and row['max']}, not {migrations.newest_version()}: run `tidegate migrate`"
        )
