"""
The tables of the runs, written one partition slice a transaction.

Why COPY straight into the table: nearly every slice is new as a whole, and a slice that is not (redelivery after a
crash, a repeated event) fails on a unique key, is rolled back and done again with a look at what is there. That costs
a rare slice twice and every other one no staging.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection, AsyncCursor, errors
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from processors.persistence.trace import StoredEvent, Trace
from processors.persistence.verdicts import (
    Finalization,
    Known,
    RunKey,
    Verdicts,
    judge,
    place_of,
    run_of,
)
from processors.runtime.errors import Transient, Unsettled
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.outcomes import Arrival, Tally
from schemas import headers, migrations
from schemas.errors import Poison, Reason
from schemas.events import RunEvent, RunStatus, TraceRecord

CONNECT_S = 5
TRANSACTION_S = 30.0
TRACE_ROWS_A_FETCH = 500

# Classes of SQLSTATE (PostgreSQL, appendix A) after which the same slice may go in later: connection, rolled back,
# out of resources, operator's intervention, system error. Beside them single codes: read-only during a failover, lock.
_TRANSIENT_CLASSES = frozenset({"08", "40", "53", "57", "58"})
_TRANSIENT_STATES = frozenset({"25006", "55P03"})
# Classes that say that a value can never be stored: data exception, limit exceeded, constraint.
_POISON_CLASSES = frozenset({"22", "54", "23"})

# Locks the runs of the slice, in one order for all, so that no two transactions wait for each other.
LOCK_RUNS = """
    SELECT runs.tenant_id, runs.run_id, runs.status, trace_records.kafka_partition, trace_records.kafka_offset
    FROM runs
    LEFT JOIN trace_records USING (tenant_id, run_id)
    WHERE (tenant_id, run_id) IN (SELECT * FROM unnest(%(tenants)s::text[], %(runs)s::text[]))
    ORDER BY tenant_id, run_id
    FOR UPDATE OF runs
"""

# What is stored under the slice's seqs, idempotency keys and places: three index look-ups a record.
KNOWN_EVENTS = """
    WITH arrived AS (
        SELECT * FROM unnest(
            %(tenants)s::text[], %(runs)s::text[], %(seqs)s::bigint[], %(keys)s::text[], %(offsets)s::bigint[]
        ) AS arrived (tenant_id, run_id, seq, idempotency_key, kafka_offset)
    ), places AS (
        SELECT kafka_partition, stored.kafka_offset
        FROM trace_events stored JOIN arrived USING (tenant_id, run_id, seq)
        UNION
        SELECT kafka_partition, stored.kafka_offset
        FROM trace_events stored JOIN arrived USING (tenant_id, run_id, idempotency_key)
        UNION
        SELECT %(partition)s, kafka_offset FROM arrived
    )
    SELECT tenant_id, run_id, seq, idempotency_key, event_sha256, kafka_partition, kafka_offset
    FROM trace_events JOIN places USING (kafka_partition, kafka_offset)
"""

COPY_EVENTS = """
    COPY trace_events (tenant_id, run_id, seq, idempotency_key, t, happened_at, actor, type, agent_id, payload,
        payload_ref, meta, event_sha256, kafka_partition, kafka_offset, received_at) FROM STDIN (FORMAT BINARY)
"""
# How the columns above are sent; binary costs a quarter of text. The texts of json columns are sent as they are.
EVENT_TYPES = (
    *("text", "text", "int8", "text", "text", "timestamptz", "text", "text", "text", "text"),
    *("text", "text", "bytea", "int4", "int8", "timestamptz"),
)

# One row for each run that the slice speaks of; counts are added, since events of a run come in many slices.
UPSERT_RUNS = """
    INSERT INTO runs (tenant_id, run_id, agent_id, event_count, last_seq, started_at, updated_at)
    SELECT * FROM unnest(%(tenants)s::text[], %(runs)s::text[], %(agents)s::text[], %(counts)s::bigint[],
        %(last_seqs)s::bigint[], %(started)s::timestamptz[], %(updated)s::timestamptz[])
    ON CONFLICT (tenant_id, run_id) DO UPDATE SET
        agent_id = coalesce(runs.agent_id, excluded.agent_id),
        event_count = runs.event_count + excluded.event_count,
        last_seq = greatest(runs.last_seq, excluded.last_seq),
        updated_at = greatest(runs.updated_at, excluded.updated_at)
"""

# The later in the log wins, whatever order slices are replayed in.
UPSERT_ENVIRONMENT = """
    INSERT INTO environment_snapshots
        (tenant_id, run_id, environment, environment_sha256, captured_at, kafka_partition, kafka_offset)
    VALUES (%s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (tenant_id, run_id) DO UPDATE SET
        environment = excluded.environment, environment_sha256 = excluded.environment_sha256,
        captured_at = excluded.captured_at, kafka_offset = excluded.kafka_offset, stored_at = now()
    WHERE environment_snapshots.kafka_offset < excluded.kafka_offset
"""

# A record comes again after a crash: its place says that it is the same one.
INSERT_REJECTED = """
    INSERT INTO rejected_events
        (kafka_partition, kafka_offset, tenant_id, run_id, seq, reason, detail, key, value, received_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (kafka_partition, kafka_offset) DO NOTHING
"""
INSERT_DUPLICATE = """
    INSERT INTO duplicate_events (kafka_partition, kafka_offset, tenant_id, run_id, seq)
    VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (kafka_partition, kafka_offset) DO NOTHING
"""

FINALIZE_RUN = """
    UPDATE runs SET status = %(status)s, declared_event_count = %(declared)s, finalized_at = %(finalized_at)s
    WHERE tenant_id = %(tenant)s AND run_id = %(run)s
"""
RUN_EVENTS_BY_SEQ = """
    SELECT seq, type, actor, happened_at, payload::text, event_sha256 FROM trace_events
    WHERE tenant_id = %s AND run_id = %s ORDER BY seq
"""
RUN_COUNTS = """
    SELECT (SELECT count(*) FROM duplicate_events WHERE tenant_id = %(tenant)s AND run_id = %(run)s),
        (SELECT count(*) FROM rejected_events WHERE tenant_id = %(tenant)s AND run_id = %(run)s)
"""
INSERT_TRACE = """
    INSERT INTO trace_records
        (tenant_id, run_id, status, event_count, chain_head, document, kafka_partition, kafka_offset)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""
SELECT_TRACE = """
    SELECT status, event_count, chain_head, document::text FROM trace_records WHERE tenant_id = %s AND run_id = %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What a slice came to, and the trace records that are to be published before it counts as finished."""

    tally: Tally
    traces: Sequence[TraceRecord]


class _MustLookUp(Exception):
    """The slice bears on what is stored: judge it again, knowing that."""


class EventStore:
    """The runs' tables, through a pool that reconnects by itself."""

    def __init__(self, dsn: str, *, connections_max: int) -> None:
        """Prepare the pool; `open` starts it."""
        self._pool = AsyncConnectionPool(
            dsn,
            min_size=1,
            max_size=connections_max,
            open=False,
            timeout=CONNECT_S,
            kwargs={"connect_timeout": CONNECT_S, "application_name": "tidegate-persistence"},
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
            async with self._transaction() as connection:
                row = await (await connection.execute(migrations.APPLIED_VERSION)).fetchone()
        except errors.UndefinedTable:
            row = None
        if row is None or row[0] != newest:
            raise Unsettled(f"tables are at version {row and row[0]}, not {newest}: run `tidegate migrate`")

    async def append(self, arrivals: Sequence[Arrival]) -> Appended:
        """
        Store a slice in one transaction: each record once, in log order.

        Raises:
            Transient, Poison: see `Handler`.
            Unsettled: the store holds something else from these places of the log.
        """
        try:
            return await self._append(arrivals, look_up=False)
        except _MustLookUp:
            return await self._append(arrivals, look_up=True)

    async def _append(self, arrivals: Sequence[Arrival], *, look_up: bool) -> Appended:
        reach(Failpoint.BEFORE_TX)
        try:
            async with self._transaction() as connection, connection.cursor() as cursor:
                known = Known(finalized=await _lock_runs(cursor, arrivals))
                if look_up:
                    await _look_up(cursor, arrivals, known)
                elif known.finalized:
                    raise _MustLookUp  # what comes for a closed run may be old
                verdicts = judge(arrivals, known)
                await _write(cursor, verdicts)
                traces = [await _finalize(connection, each) for each in verdicts.finalizations.values()]
                traces += [await _stored_trace(cursor, run) for run in verdicts.traces_again]
                reach(Failpoint.BEFORE_COMMIT)
        except errors.UniqueViolation as error:
            if look_up:
                # Another worker wrote these rows since we looked: it took the partition over. Look again later.
                raise Transient("another worker writes the same rows") from error
            raise _MustLookUp from error
        return Appended(tally=verdicts.tally, traces=traces)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with asyncio.timeout(TRANSACTION_S), self._pool.connection() as connection:
                yield connection
        except errors.UniqueViolation:
            raise
        except (PoolTimeout, TimeoutError) as error:
            raise Transient(f"Postgres does not answer: {error}") from error
        except psycopg.Error as error:
            raise _meaning(error) from error


def _meaning(error: psycopg.Error) -> Exception:
    state = error.sqlstate
    if state is None or state[:2] in _TRANSIENT_CLASSES or state in _TRANSIENT_STATES:
        # Without a state the connection broke: whether it was committed is unknown, and the keys settle it.
        return Transient(f"Postgres: {error}".strip())
    if state[:2] in _POISON_CLASSES:
        return Poison(Reason.NOT_STORABLE, f"Postgres {state}: {error}".strip())
    return error


async def _lock_runs(cursor: AsyncCursor[Any], arrivals: Sequence[Arrival]) -> dict[RunKey, Finalization]:
    runs = sorted({run_of(arrival) for arrival in arrivals})
    await cursor.execute(LOCK_RUNS, {"tenants": [tenant for tenant, _ in runs], "runs": [run_id for _, run_id in runs]})
    return {
        (tenant, run_id): Finalization(status=RunStatus(status), place=(partition, offset))
        for tenant, run_id, status, partition, offset in await cursor.fetchall()
        if partition is not None
    }


async def _look_up(cursor: AsyncCursor[Any], arrivals: Sequence[Arrival], known: Known) -> None:
    events = [(arrival.raw, arrival.record) for arrival in arrivals if isinstance(arrival.record, RunEvent)]
    await cursor.execute(
        KNOWN_EVENTS,
        {
            "tenants": [event.tenant for _, event in events],
            "runs": [event.run_id for _, event in events],
            "seqs": [event.seq for _, event in events],
            "keys": [event.idempotency_key for _, event in events],
            "offsets": [raw.offset for raw, _ in events],
            "partition": arrivals[0].raw.partition,
        },
    )
    for tenant, run_id, seq, key, sha256, partition, offset in await cursor.fetchall():
        known.sha256[tenant, run_id, seq] = sha256
        known.at[partition, offset] = (tenant, run_id, seq, sha256)
        if key is not None:
            known.seq[tenant, run_id, key] = seq


async def _write(cursor: AsyncCursor[Any], verdicts: Verdicts) -> None:
    if verdicts.events:
        rows = [_event_row(arrival) for arrival in verdicts.events]
        async with cursor.copy(COPY_EVENTS) as copy:
            copy.set_types(EVENT_TYPES)
            for row in rows:
                await copy.write_row(row)
    if runs := _run_rows(verdicts):
        await cursor.execute(UPSERT_RUNS, _upsert_parameters(runs))
    if verdicts.environments:
        await cursor.executemany(
            UPSERT_ENVIRONMENT, [_environment_row(each) for each in verdicts.environments.values()]
        )
    if verdicts.duplicates:
        await cursor.executemany(INSERT_DUPLICATE, [_identity(each) for each in verdicts.duplicates])
    if verdicts.rejected:
        rejections = [
            (
                *_identity(arrival),
                rejection.reason,
                rejection.detail.replace("\0", ""),
                arrival.raw.key,
                arrival.raw.value,
                received_at(arrival),
            )
            for arrival, rejection in verdicts.rejected
        ]
        await cursor.executemany(INSERT_REJECTED, rejections)


def received_at(arrival: Arrival) -> datetime:
    """When the gateway took the record; for a direct record, the time that its producer or the broker gave it."""
    header = headers.find(arrival.raw.headers, headers.RECEIVED_AT)
    if header is not None and arrival.rejection is None:
        try:
            return datetime.fromisoformat(header.decode())
        except ValueError:
            pass  # a direct producer's own header: the record's time serves
    return datetime.fromtimestamp(max(arrival.raw.timestamp, 0) / 1000, UTC)


def _moment(t: str) -> datetime:
    try:
        return datetime.fromisoformat(t.upper())
    except ValueError as error:
        raise Poison(Reason.NOT_STORABLE, f"t: {error}") from error


def _event_row(arrival: Arrival) -> tuple[object, ...]:
    event: Any = arrival.record
    raw = arrival.raw
    return (
        event.tenant,
        event.run_id,
        event.seq,
        event.idempotency_key,
        event.t,
        _moment(event.t),
        event.actor,
        event.type,
        event.agent_id,
        event.payload,
        None,
        event.meta,
        event.event_sha256,
        raw.partition,
        raw.offset,
        received_at(arrival),
    )


@dataclass(slots=True)
class _RunRow:
    first: Arrival
    last: Arrival
    agent_id: str | None = None
    event_count: int = 0
    last_seq: int = 0


def _run_rows(verdicts: Verdicts) -> dict[RunKey, _RunRow]:
    rows: dict[RunKey, _RunRow] = {}
    for arrival in (*verdicts.events, *verdicts.environments.values(), *verdicts.finalizations.values()):
        record = arrival.record
        run = (record.tenant, record.run_id)
        row = rows.get(run)
        if row is None:
            rows[run] = row = _RunRow(arrival, arrival)
        row.last = arrival
        if isinstance(record, RunEvent):
            row.agent_id = row.agent_id or record.agent_id
            row.event_count += 1
            row.last_seq = max(row.last_seq, record.seq)
    return rows


def _upsert_parameters(rows: dict[RunKey, _RunRow]) -> dict[str, list[Any]]:
    # Sorted: the order in which LOCK_RUNS took them.
    columns = [
        (tenant, run_id, row.agent_id, row.event_count, row.last_seq, received_at(row.first), received_at(row.last))
        for (tenant, run_id), row in sorted(rows.items(), key=lambda item: item[0])
    ]
    names = ("tenants", "runs", "agents", "counts", "last_seqs", "started", "updated")
    return {name: list(values) for name, values in zip(names, zip(*columns, strict=True), strict=True)}


def _environment_row(arrival: Arrival) -> tuple[object, ...]:
    record: Any = arrival.record
    return (
        record.tenant,
        record.run_id,
        record.environment,
        record.environment_sha256,
        record.captured_at,
        *place_of(arrival),
    )


def _identity(arrival: Arrival) -> tuple[object, ...]:
    seq = arrival.record.seq if isinstance(arrival.record, RunEvent) else None
    return (arrival.raw.partition, arrival.raw.offset, arrival.record.tenant, arrival.record.run_id, seq)


async def _finalize(connection: AsyncConnection, arrival: Arrival) -> TraceRecord:
    record: Any = arrival.record
    await connection.execute(
        FINALIZE_RUN,
        {
            "status": record.status,
            "declared": record.event_count,
            "finalized_at": record.finalized_at,
            "tenant": record.tenant,
            "run": record.run_id,
        },
    )
    trace = Trace()
    # A cursor on the server: a run may have more events than we want in memory.
    async with connection.cursor(name="run_events") as rows:
        rows.itersize = TRACE_ROWS_A_FETCH
        await rows.execute(RUN_EVENTS_BY_SEQ, (record.tenant, record.run_id))
        async for seq, kind, actor, happened_at, payload, sha256 in rows:
            trace.add(
                StoredEvent(
                    seq=seq, type=kind, actor=actor, happened_at=happened_at, payload=payload, event_sha256=sha256
                )
            )
    counts = await connection.execute(RUN_COUNTS, {"tenant": record.tenant, "run": record.run_id})
    duplicates, rejected = await counts.fetchone() or (0, 0)
    document = trace.document(
        status=record.status, declared_event_count=record.event_count, duplicates=duplicates, rejected=rejected
    )
    await connection.execute(
        INSERT_TRACE,
        (
            record.tenant,
            record.run_id,
            record.status,
            trace.event_count,
            trace.chain_head,
            document,
            *place_of(arrival),
        ),
    )
    return TraceRecord(
        tenant=record.tenant,
        run_id=record.run_id,
        status=record.status,
        event_count=trace.event_count,
        chain_head=trace.chain_head,
        document=document,
    )


async def _stored_trace(cursor: AsyncCursor[Any], run: RunKey) -> TraceRecord:
    await cursor.execute(SELECT_TRACE, run)
    row = await cursor.fetchone()
    tenant, run_id = run
    if row is None:
        raise Unsettled(f"run {run_id} is finalized without a trace record")
    status, event_count, chain_head, document = row
    return TraceRecord(
        tenant=tenant,
        run_id=run_id,
        status=RunStatus(status),
        event_count=event_count,
        chain_head=chain_head,
        document=document,
    )
