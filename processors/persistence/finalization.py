"""The end of a run: its row closed and its trace record written, in the transaction of its slice."""

from collections.abc import Callable
from typing import Any, NoReturn

from psycopg import AsyncConnection, AsyncCursor

from processors.persistence.trace import Removed, StoredEvent, Trace
from processors.persistence.verdicts import RunKey, place_of
from processors.runtime.errors import Unsettled
from processors.runtime.outcomes import Arrival
from schemas.events import RunStatus, TraceRecord

ROWS_A_FETCH = 100  # of up to 100 KiB each: they are read between two turns of the event loop

FINALIZE_RUN = """
    UPDATE runs SET status = %(status)s, declared_event_count = %(declared)s, finalized_at = %(finalized_at)s
    WHERE tenant_id = %(tenant)s AND run_id = %(run)s
"""

# A payload in object storage is not fetched: a transaction must not wait for it. Its size stands in the reference.
RUN_EVENTS_BY_SEQ = """
    SELECT seq, type, actor, happened_at, payload::text, (payload_ref ->> 'size_bytes')::bigint, event_sha256
    FROM trace_events
    WHERE tenant_id = %s AND run_id = %s ORDER BY seq
"""

RUN_COUNTS = """
    SELECT (SELECT count(*) FROM duplicate_events WHERE tenant_id = %(tenant)s AND run_id = %(run)s),
        (SELECT count(*) FROM rejected_events WHERE tenant_id = %(tenant)s AND run_id = %(run)s)
"""

CLOSED_RUN = "SELECT status, declared_event_count FROM runs WHERE tenant_id = %s AND run_id = %s"

# Events that retention took and no replay has brought back, at least not all of them.
REMOVED_EVENTS = """
    SELECT events_removed_at, events_removed_count FROM runs
    WHERE tenant_id = %s AND run_id = %s AND events_removed_at IS NOT NULL AND event_count < events_removed_count
"""

INSERT_TRACE = """
    INSERT INTO trace_records
        (tenant_id, run_id, status, event_count, chain_head, document, kafka_partition, kafka_offset)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""

UPDATE_TRACE = """
    UPDATE trace_records SET event_count = %s, chain_head = %s, document = %s, stored_at = now()
    WHERE tenant_id = %s AND run_id = %s
"""

SELECT_TRACE = """
    SELECT status, event_count, chain_head, document::text FROM trace_records WHERE tenant_id = %s AND run_id = %s
"""


async def finalize(connection: AsyncConnection, arrival: Arrival, goes_on: Callable[[], None]) -> TraceRecord:
    """
    Close the run of *arrival* and sum it up; its events of this slice are written already.

    *goes_on* is called at each step, since a run may have more events than can be read in any fixed time.
    """
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
    summed = await _sum_up(
        connection,
        (record.tenant, record.run_id),
        goes_on,
        status=record.status,
        declared_event_count=record.event_count,
    )
    await connection.execute(
        INSERT_TRACE,
        (
            record.tenant,
            record.run_id,
            record.status,
            summed.event_count,
            summed.chain_head,
            summed.document,
            *place_of(arrival),
        ),
    )
    return summed


async def sum_up_again(connection: AsyncConnection, run: RunKey, goes_on: Callable[[], None]) -> TraceRecord:
    """
    Make the trace record of a closed *run* anew, since events from before its end were added or rewritten.

    Of a run whose events were removed it stays as it was until all of them are back: its chain head is what exports
    are verified against. *goes_on* is as in `finalize`.
    """
    if await _removed(connection, run) is not None:
        async with connection.cursor() as cursor:
            return await stored_trace(cursor, run)
    status, declared_event_count = await (await connection.execute(CLOSED_RUN, run)).fetchone() or _no_trace(run)
    summed = await _sum_up(
        connection, run, goes_on, status=RunStatus(status), declared_event_count=declared_event_count
    )
    await connection.execute(UPDATE_TRACE, (summed.event_count, summed.chain_head, summed.document, *run))
    return summed


async def _sum_up(
    connection: AsyncConnection,
    run: RunKey,
    goes_on: Callable[[], None],
    *,
    status: RunStatus,
    declared_event_count: int | None,
) -> TraceRecord:
    trace = Trace()
    # A cursor on the server: a run may have more events than we want in memory.
    async with connection.cursor(name="run_events") as cursor:
        await cursor.execute(RUN_EVENTS_BY_SEQ, run)
        while rows := await cursor.fetchmany(ROWS_A_FETCH):
            goes_on()
            for seq, kind, actor, happened_at, payload, referenced_bytes, sha256 in rows:
                trace.add(
                    StoredEvent(
                        seq=seq,
                        type=kind,
                        actor=actor,
                        happened_at=happened_at,
                        payload=payload,
                        referenced_bytes=referenced_bytes,
                        event_sha256=sha256,
                    )
                )
    goes_on()
    tenant, run_id = run
    counts = await connection.execute(RUN_COUNTS, {"tenant": tenant, "run": run_id})
    duplicates, rejected = await counts.fetchone() or (0, 0)
    return TraceRecord(
        tenant=tenant,
        run_id=run_id,
        status=status,
        event_count=trace.event_count,
        chain_head=trace.chain_head,
        document=trace.document(
            status=status,
            declared_event_count=declared_event_count,
            duplicates=duplicates,
            rejected=rejected,
            removed=await _removed(connection, run),
        ),
    )


async def _removed(connection: AsyncConnection, run: RunKey) -> Removed | None:
    row = await (await connection.execute(REMOVED_EVENTS, run)).fetchone()
    return None if row is None else Removed(at=row[0], count=row[1])


async def stored_trace(cursor: AsyncCursor[Any], run: RunKey) -> TraceRecord:
    """The trace record of a *run* that was closed before."""
    await cursor.execute(SELECT_TRACE, run)
    row = await cursor.fetchone()
    tenant, run_id = run
    status, event_count, chain_head, document = row or _no_trace(run)
    return TraceRecord(
        tenant=tenant,
        run_id=run_id,
        status=RunStatus(status),
        event_count=event_count,
        chain_head=chain_head,
        document=document,
    )


def _no_trace(run: RunKey) -> NoReturn:
    raise Unsettled(f"run {run[1]} is finalized without a trace record")
