"""The end of a run: its row closed and its trace record written, in the transaction of its slice."""

from typing import Any

from psycopg import AsyncConnection, AsyncCursor

from processors.persistence.trace import StoredEvent, Trace
from processors.persistence.verdicts import RunKey, place_of
from processors.runtime.errors import Unsettled
from processors.runtime.outcomes import Arrival
from schemas.events import RunStatus, TraceRecord

ROWS_A_FETCH = 500

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


async def finalize(connection: AsyncConnection, arrival: Arrival) -> TraceRecord:
    """Close the run of *arrival* and sum it up; its events of this slice are written already."""
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
        rows.itersize = ROWS_A_FETCH
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


async def stored_trace(cursor: AsyncCursor[Any], run: RunKey) -> TraceRecord:
    """The trace record of a *run* that was closed before."""
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
