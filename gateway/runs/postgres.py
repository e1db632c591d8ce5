"""
`RunStore` on Postgres.

Every statement names the tenant. Statements are read-only by the session's setting. Each wait for a connection and
each use of one is bounded on this side too, so that a Postgres that is away or frozen costs a reader seconds and an
ingester nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, Self

import msgspec
import psycopg
import structlog
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from gateway.errors import StoreUnavailable
from gateway.kafka.effect import Effect
from gateway.runs import stored_run_states
from gateway.runs.integrity import (
    INTEGRITY,
    MISSING_RANGES_MAX,
    REJECTED_SHOWN_MAX,
    REMOVALS_SHOWN_MAX,
    IntegrityView,
    integrity_view,
)
from gateway.runs.parsing.prepared import EventIdentity
from gateway.runs.record_outcomes import OUTCOME, effect
from gateway.runs.sequence.memory import RunKey, RunState
from gateway.runs.store import PAGE_BYTES_MAX, EventFilter, RecordIdentity, RunFilter, RunPlace
from schemas.kafka.places import RecordPlace
from schemas.process.migrations import APPLIED_VERSION, newest_version
from schemas.process.postgres import borrowed, check_alive, is_sound_after
from schemas.process.settings import SettingsInvalid
from schemas.runs.topics import RUN_EVENTS
from schemas.runs.views import EnvironmentView, EventView, RunView

CONNECTIONS_MAX = 8
CONNECTION_WAIT_S = 2.0
CONNECT_TIMEOUT_S = 2
STATEMENT_TIMEOUT_MS = 5000
READ_TIMEOUT_S = 7.0  # of one read, its connection in hand: a Postgres that answers ends a statement sooner by itself
STATE_CONNECTIONS_MAX = 2  # of the sequencer's own, so that slow reads of many rows do not keep events from their place
# Of a look at a run: together less than the time that the sequencer has for it, so that none is cancelled half-way.
STATE_WAIT_S = 0.5
STATE_TIMEOUT_S = 1.25
FRESH_S = 1.0  # how long a probe relies on the last read
PROBE_S = 0.5  # a probe answers within a second, Postgres or not: orchestrators wait no longer
# UTC: with another zone's offset some moments that are stored would be in the year 10000.
OPTIONS = f"-c timezone=UTC -c default_transaction_read_only=on -c statement_timeout={STATEMENT_TIMEOUT_MS}"

_OURS = "42"  # the class of SQLSTATE of wrong statements and missing rights: not the session's fault

Connection = psycopg.AsyncConnection[dict[str, Any]]

log = structlog.get_logger()

# The index runs_newest serves this order; a row comparison resumes after the last run shown.
LIST_RUNS = """
    SELECT run_id, agent_id, status, event_count, last_seq, declared_event_count, started_at, updated_at, finalized_at,
           events_removed_at, events_removed_count
    FROM runs
    WHERE tenant_id = %(tenant)s
      AND (%(agent)s::text IS NULL OR agent_id = %(agent)s)
      AND (%(status)s::text IS NULL OR status = %(status)s)
      AND (%(started_from)s::timestamptz IS NULL OR started_at >= %(started_from)s)
      AND (%(started_before)s::timestamptz IS NULL OR started_at < %(started_before)s)
      AND (%(after_run)s::text IS NULL OR (started_at, run_id) < (%(after_started)s, %(after_run)s))
    ORDER BY started_at DESC, run_id DESC
    LIMIT %(limit)s
"""

ONE_RUN = """
    SELECT run_id, agent_id, status, event_count, last_seq, declared_event_count, started_at, updated_at, finalized_at,
           events_removed_at, events_removed_count
    FROM runs
    WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s
"""

# Documents leave as text: decoding and encoding them again would change their numbers.
LIST_EVENTS = """
    SELECT seq, t, actor, type, agent_id, payload::text, payload_ref::text, meta::text,
           coalesce(octet_length(payload::text), 0) + octet_length(meta::text) AS size_bytes,
           encode(event_sha256, 'hex') AS event_sha256, kafka_partition, kafka_offset, received_at, stored_at
    FROM trace_events
    WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s AND seq > %(after_seq)s
      AND (%(type)s::text IS NULL OR type = %(type)s)
      AND (%(actor)s::text IS NULL OR actor = %(actor)s)
    ORDER BY seq
    LIMIT %(limit)s
"""

ENVIRONMENT = """
    SELECT run_id, environment::text, encode(environment_sha256, 'hex') AS environment_sha256,
           kafka_partition, kafka_offset, captured_at
    FROM environment_snapshots
    WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s
"""

TOPIC_ID = "SELECT topic_id FROM log_topics WHERE topic = %(topic)s"

TRACE = "SELECT document::text FROM trace_records WHERE tenant_id = %(tenant)s AND run_id = %(run_id)s"


class PostgresRunStore:
    """A pool of read-only connections; an async context manager that opens even while Postgres is away."""

    def __init__(self, dsn: str) -> None:
        """
        Prepare; nothing is opened before the context is entered.

        Raises:
            SettingsInvalid: *dsn* is not a DSN.
        """
        try:
            conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            # Its text quotes the DSN with the password, and the pool would log it at each attempt.
            raise SettingsInvalid("TIDEGATE_POSTGRES is not a valid PostgreSQL connection string") from None
        self._reads = _pool(dsn, name="reads", connections_max=CONNECTIONS_MAX, wait_s=CONNECTION_WAIT_S)
        self._state_reads = _pool(dsn, name="states", connections_max=STATE_CONNECTIONS_MAX, wait_s=STATE_WAIT_S)
        self._migrated = False
        self._available = False
        self._looked_at_s = float("-inf")
        self._probe: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start connecting in the background."""
        for pool in (self._reads, self._state_reads):
            await pool.open(wait=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        if self._probe is not None:
            await asyncio.wait({self._probe})  # bounded by itself
        for pool in (self._reads, self._state_reads):
            await pool.close()

    async def answers(self) -> bool:
        """See `RunStore.answers`."""
        if monotonic() - self._looked_at_s <= FRESH_S:
            return self._available
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._try_connection())
        answered, _ = await asyncio.wait({self._probe}, timeout=PROBE_S)
        return bool(answered) and self._available

    async def _try_connection(self) -> None:
        with suppress(StoreUnavailable):
            async with self._connection(self._state_reads):
                pass

    async def check_tables(self) -> None:
        """
        Compare the tables' version with the code's.

        Raises:
            TablesNotMigrated: do not start.
            StoreUnavailable: Postgres is away; the version is checked before the first read.
        """
        async with self._connection():
            pass

    async def runs(
        self, tenant: str, admitted: RunFilter, *, after: RunPlace | None, limit: int
    ) -> tuple[Sequence[RunView], bool]:
        """Return at most *limit* runs, the newest first, and whether more follow."""
        parameters = {
            "tenant": tenant,
            "agent": admitted.agent,
            "status": admitted.status,
            "started_from": admitted.started_from,
            "started_before": admitted.started_before,
            "after_started": after and after.started_at,
            "after_run": after and after.run_id,
            "limit": limit + 1,  # one more tells whether there is a next page
        }
        async with self._connection() as connection:
            rows = await (await connection.execute(LIST_RUNS, parameters)).fetchall()
        return [RunView(**row) for row in rows[:limit]], len(rows) > limit

    async def run(self, tenant: str, run_id: str) -> RunView | None:
        """Return one run; None if the tenant has no such run."""
        row = await self._one(ONE_RUN, tenant, run_id)
        return None if row is None else RunView(**row)

    async def events(
        self, tenant: str, run_id: str, admitted: EventFilter, *, after_seq: int, limit: int
    ) -> tuple[Sequence[EventView], bool]:
        """Return at most *limit* events by seq, fewer where they are large, and whether more follow."""
        parameters = {
            "tenant": tenant,
            "run_id": run_id,
            "type": admitted.type,
            "actor": admitted.actor,
            "after_seq": after_seq,
            "limit": limit + 1,
        }
        page: list[EventView] = []
        size_bytes = 0
        # Row by row: a page of the largest events must never be held whole.
        async with self._connection() as connection, connection.cursor() as cursor:
            async for row in cursor.stream(LIST_EVENTS, parameters):
                if len(page) == limit or size_bytes > PAGE_BYTES_MAX:
                    return page, True
                size_bytes += row["size_bytes"]
                page.append(_event_view(row))
        return page, False

    async def environment(self, tenant: str, run_id: str) -> EnvironmentView | None:
        """Return the newest environment captured; None if there is none."""
        row = await self._one(ENVIRONMENT, tenant, run_id)
        if row is None:
            return None
        return EnvironmentView(
            run_id=row["run_id"],
            environment=msgspec.Raw(row["environment"]),
            environment_sha256=row["environment_sha256"],
            wal_id=_wal_id(row),
            captured_at=row["captured_at"],
        )

    async def integrity(self, tenant: str, run_id: str, *, home_partition: int | None) -> IntegrityView | None:
        """See `RunStore.integrity`."""
        parameters = {
            "tenant": tenant,
            "run_id": run_id,
            "ranges": MISSING_RANGES_MAX,
            "rejected": REJECTED_SHOWN_MAX,
            "removals": REMOVALS_SHOWN_MAX,
            "home": home_partition,
        }
        async with self._connection() as connection:
            row = await (await connection.execute(INTEGRITY, parameters)).fetchone()
        return None if row is None else integrity_view(run_id, row)

    async def trace(self, tenant: str, run_id: str) -> str | None:
        """Return the trace record's JSON text; None until the run is finalized and stored."""
        row = await self._one(TRACE, tenant, run_id)
        return None if row is None else str(row["document"])

    async def effect(self, tenant: str, place: RecordPlace, identity: RecordIdentity) -> Effect | None:
        """Return what the record of *identity* at *place* came to; None if the tenant has nothing of it from there."""
        parameters = {
            "tenant": tenant,
            "partition": place.partition,
            "offset": place.offset,
            "run_id": identity.run_id,
            "event_sha256": identity.event_sha256,
            "environment": identity.environment,
        }
        async with self._connection() as connection:
            row = await (await connection.execute(OUTCOME, parameters)).fetchone()
        return None if row is None else effect(row, place)

    async def topic_id(self, topic: str) -> str | None:
        """See `RunStore.topic_id`."""
        async with self._connection() as connection:
            row = await (await connection.execute(TOPIC_ID, {"topic": topic})).fetchone()
        return None if row is None else str(row["topic_id"])

    async def run_states(self, asked: Sequence[tuple[RunKey, Sequence[EventIdentity]]]) -> Mapping[RunKey, RunState]:
        """
        Return what is stored of the runs that are asked about, and under the seqs and idempotency keys of the events.
        """
        async with self._connection(self._state_reads) as connection:
            return await stored_run_states.run_states(connection, asked)

    async def _one(self, statement: str, tenant: str, run_id: str) -> dict[str, Any] | None:
        async with self._connection() as connection:
            return await (await connection.execute(statement, {"tenant": tenant, "run_id": run_id})).fetchone()

    @asynccontextmanager
    async def _connection(self, pool: AsyncConnectionPool[Connection] | None = None) -> AsyncIterator[Connection]:
        within_s = STATE_TIMEOUT_S if pool is self._state_reads else READ_TIMEOUT_S
        try:
            async with borrowed(pool or self._reads, within_s=within_s) as (connection, _):
                if not self._migrated:
                    await _check_version(connection)
                    self._migrated = True
                yield connection
        except (psycopg.OperationalError, PoolTimeout) as error:
            self._unavailable(error)
            raise StoreUnavailable("stored runs cannot be read now; events are still accepted") from error
        except psycopg.Error as error:
            if is_sound_after(error) or (error.sqlstate or "").startswith(_OURS):
                raise
            # The session has gone bad and is closed: the next read gets another.
            self._unavailable(error)
            raise StoreUnavailable("stored runs could not be read; try again") from error
        self._available = True
        self._looked_at_s = monotonic()

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


class TablesNotMigrated(StoreUnavailable):
    """The tables are not of the version that this code reads. Run `tidegate migrate`."""


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


def _event_view(row: Mapping[str, Any]) -> EventView:
    return EventView(
        seq=row["seq"],
        t=row["t"],
        actor=row["actor"],
        type=row["type"],
        agent_id=row["agent_id"],
        payload=msgspec.Raw(row["payload"] or "null"),
        payload_ref=msgspec.Raw(row["payload_ref"] or "null"),
        meta=msgspec.Raw(row["meta"]),
        event_sha256=row["event_sha256"],
        wal_id=_wal_id(row),
        received_at=row["received_at"],
        stored_at=row["stored_at"],
    )


def _wal_id(row: Mapping[str, Any]) -> str:
    return RecordPlace(RUN_EVENTS.name, row["kafka_partition"], row["kafka_offset"]).wal_id
