"""The end of a run: its row closed and its trace record written, in the transaction of its slice."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from psycopg import AsyncConnection, AsyncCursor

from processors.runs.persistence.removals import removed_from
from processors.runs.persistence.trace import StoredEvent, Trace, is_misplaced
from processors.runs.persistence.verdicts import RunKey, place_of
from processors.runtime.contract import Arrival
from processors.runtime.errors import Unsettled
from schemas.kafka.partitioner import partition_of
from schemas.runs.chain import CHAIN_START
from schemas.runs.records import RunFinalized, RunRecord, RunStatus, TraceRecord

ROWS_A_FETCH = 100  # of up to 100 KiB each: they are read between two turns of the event loop

FINALIZE_RUN = """
    UPDATE runs SET status = %(status)s, declared_event_count = %(declared)s, finalized_at = %(finalized_at)s
    WHERE tenant_id = %(tenant)s AND run_id = %(run)s
"""

# A payload in object storage is not fetched: a transaction must not wait for it. Its size stands in the reference.
RUN_EVENTS_BY_SEQ = """
    SELECT seq, type, actor, happened_at, payload::text, (payload_ref ->> 'size_bytes')::bigint, event_sha256,
        kafka_partition, false
    FROM trace_events
    WHERE tenant_id = %s AND run_id = %s ORDER BY seq
"""

# The same of a run with removed events: what a replay stored of them again is in the chain's head at their removal.
RUN_EVENTS_SINCE_REMOVAL = """
    SELECT seq, type, actor, happened_at, payload::text, (payload_ref ->> 'size_bytes')::bigint, event_sha256,
        kafka_partition,
        EXISTS (SELECT FROM event_removals AS removal
                WHERE removal.tenant_id = event.tenant_id AND removal.run_id = event.run_id
                  AND event.seq::numeric <@ removal.seqs)
    FROM trace_events AS event
    WHERE tenant_id = %s AND run_id = %s ORDER BY seq
"""

RUN_COUNTS = """
    SELECT (SELECT count(*) FROM duplicate_events WHERE tenant_id = %(tenant)s AND run_id = %(run)s),
        (SELECT count(*) FROM rejected_events WHERE tenant_id = %(tenant)s AND run_id = %(run)s)
"""

CLOSED_RUN = """
    SELECT runs.status, declared_event_count, kafka_partition
    FROM runs JOIN trace_records USING (tenant_id, run_id)
    WHERE tenant_id = %s AND run_id = %s
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


@dataclass(frozen=True, slots=True)
class Summing:
    """The dependencies for summing up runs."""

    connection: AsyncConnection
    goes_on: Callable[[], None]  # called at each step: a run may have more events than can be read in any fixed time
    partition_count: int


async def finalize(summing: Summing, arrival: Arrival[RunRecord]) -> TraceRecord:
    """Close the run of *arrival* and sum it up; its events of this slice are written already."""
    record = arrival.record
    assert isinstance(record, RunFinalized)
    await summing.connection.execute(
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
        summing,
        (record.tenant, record.run_id),
        status=record.status,
        declared_event_count=record.event_count,
        end_partition=arrival.raw.partition,
    )
    await summing.connection.execute(
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


async def sum_up_again(summing: Summing, run: RunKey) -> TraceRecord:
    """
    Replace the trace record of a closed *run*, since events from before its end were added or rewritten.

    Of a run with removed events it stays as it was until all of them are stored again: its chain head is what exports
    are verified against.
    """
    connection = summing.connection
    if await removed_from(connection, run) is not None:
        async with connection.cursor() as cursor:
            return await stored_trace(cursor, run)
    row = await (await connection.execute(CLOSED_RUN, run)).fetchone() or _no_trace(run)
    summed = await _sum_up(summing, run, status=RunStatus(row[0]), declared_event_count=row[1], end_partition=row[2])
    await connection.execute(UPDATE_TRACE, (summed.event_count, summed.chain_head, summed.document, *run))
    return summed


async def _sum_up(
    summing: Summing, run: RunKey, *, status: RunStatus, declared_event_count: int | None, end_partition: int
) -> TraceRecord:
    connection = summing.connection
    tenant, run_id = run
    removed = await removed_from(connection, run)
    home = partition_of(run_id.encode(), summing.partition_count)
    trace = Trace(chain_head=CHAIN_START if removed is None else removed.chain_head, home_partition=home)
    # A cursor on the server: a run may have more events than we want in memory.
    async with connection.cursor(name="run_events") as cursor:
        await cursor.execute(RUN_EVENTS_BY_SEQ if removed is None else RUN_EVENTS_SINCE_REMOVAL, run)
        while rows := await cursor.fetchmany(ROWS_A_FETCH):
            summing.goes_on()
            for seq, kind, actor, happened_at, payload, referenced_bytes, sha256, partition, is_chained in rows:
                trace.add(
                    StoredEvent(
                        seq=seq,
                        type=kind,
                        actor=actor,
                        happened_at=happened_at,
                        payload=payload,
                        referenced_bytes=referenced_bytes,
                        event_sha256=sha256,
                        partition=partition,
                        is_chained=is_chained,
                    )
                )
    summing.goes_on()
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
            removed=removed,
            is_end_misplaced=is_misplaced(end_partition, home),
        ),
    )


async def stored_trace(cursor: AsyncCursor[Any], run: RunKey) -> TraceRecord:
    """Return the trace record of a *run* that was closed before."""
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
