"""
Batches to a table, a row a record. The place is the key, so that a record that comes again has no effect.

The table is made if it is missing. One that is there may have more columns, with defaults.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from processors.runtime.failpoints import Failpoint, reach
from processors.sinks.contract import BatchRefused, Misconfigured, SinkBatch, Transient
from schemas.process.postgres import BoundedConnection
from schemas.process.settings import SettingsInvalid
from schemas.sinks.sinks_file import PostgresSink
from schemas.texts import printable

CONNECT_S = 5
APPLICATION = "tidegate-sink"
OPTIONS = "-c timezone=UTC -c idle_in_transaction_session_timeout=30s"
TEXT_CHARACTERS_MAX = 500
# The event is json, not jsonb, which takes neither every number nor every text that JSON has.
CREATE = """
    CREATE TABLE IF NOT EXISTS {} (
        topic text NOT NULL,
        topic_id text NOT NULL,
        partition integer NOT NULL,
        "offset" bigint NOT NULL,
        event json NOT NULL,
        written_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (topic_id, partition, "offset")
    )
"""
INSERT = """
    INSERT INTO {} (topic, topic_id, partition, "offset", event)
    SELECT %(topic)s, %(topic_id)s, %(partition)s, record."offset", record.event::json
    FROM unnest(%(offsets)s::bigint[], %(events)s::text[]) AS record ("offset", event)
    ON CONFLICT (topic_id, partition, "offset") DO NOTHING
"""
EXISTS = "SELECT to_regclass(%s) IS NOT NULL"

# Classes of SQLSTATE (PostgreSQL, appendix A). Of the value: data exception, constraint, limit exceeded. Of a setting:
# authorization, database, schema, and a table that is another one than ours or closed to the role.
_REFUSED_CLASSES = frozenset({"22", "23", "54"})
_HELD_CLASSES = frozenset({"28", "3D", "3F", "42"})
# Who is not let in is told no SQLSTATE by libpq, only a text.
_HELD_TEXTS = ("password authentication failed", "no pg_hba.conf entry", "does not exist", "no password supplied")


class PostgresWriter:
    """A sink of the kind postgres: a connection a partition, opened when it is needed."""

    def __init__(self, settings: PostgresSink) -> None:
        """
        Prepare.

        Raises:
            SettingsInvalid: the address is no connection string.
        """
        try:
            conninfo_to_dict(settings.dsn)
        except psycopg.ProgrammingError:  # whose text quotes it, with the password
            raise SettingsInvalid("its dsn is no PostgreSQL connection string") from None
        self._dsn = settings.dsn
        self._answer_s = settings.timeout_s
        self._name = settings.table
        self._table = sql.Identifier(*settings.table.split("."))
        self._is_there = False
        self._connections: dict[int, BoundedConnection[Any]] = {}

    async def open(self, settings: Mapping[str, Any]) -> None:
        """Do nothing: Postgres may be away at the start."""

    async def write(self, batch: SinkBatch) -> None:
        """See `Sink.write`."""
        # Taken out meanwhile: of a write that fails or is cancelled, the connection is not used again.
        connection = self._connections.pop(batch.partition, None)
        try:
            if connection is None or connection.closed:
                connection = await self._connect()
            await self._make_table(connection)
            async with connection.transaction():
                await connection.execute(sql.SQL(INSERT).format(self._table), _values(batch))
                reach(Failpoint.BEFORE_COMMIT)
        except BaseException as error:
            if connection is not None:
                with suppress(psycopg.Error):
                    await connection.close()
            if isinstance(error, psycopg.Error):
                raise _meaning(error) from error
            raise
        self._connections[batch.partition] = connection

    async def close(self) -> None:
        """Close the connections."""
        for connection in self._connections.values():
            await connection.close()

    async def _connect(self) -> BoundedConnection[Any]:
        connection = await BoundedConnection[Any].connect(
            self._dsn, autocommit=True, connect_timeout=CONNECT_S, application_name=APPLICATION, options=OPTIONS
        )
        connection.answer_s = self._answer_s
        return connection

    async def _make_table(self, connection: BoundedConnection[Any]) -> None:
        if self._is_there:
            return
        row = await (await connection.execute(EXISTS, (self._name,))).fetchone()
        if row != (True,):  # asked first: a role that may not create tables may well write to one
            await connection.execute(sql.SQL(CREATE).format(self._table))
        self._is_there = True


def _values(batch: SinkBatch) -> Mapping[str, object]:
    return {
        "topic": batch.topic,
        "topic_id": batch.topic_id,
        "partition": batch.partition,
        "offsets": [record.place.offset for record in batch.records],
        "events": [record.json.decode() for record in batch.records],
    }


def _meaning(error: psycopg.Error) -> Exception:
    text = printable(f"{error.sqlstate or 'no answer'}: {error}", characters_max=TEXT_CHARACTERS_MAX)
    state = (error.sqlstate or "")[:2]
    if state in _REFUSED_CLASSES:
        return BatchRefused(text)
    if state in _HELD_CLASSES or (error.sqlstate is None and any(each in str(error) for each in _HELD_TEXTS)):
        return Misconfigured(text)
    return Transient(text)
