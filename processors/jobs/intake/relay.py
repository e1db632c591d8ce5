"""
The relays: rows that executors and intake leave behind become records of jobs.events and jobs.reports.

One process relays at a time, in the order of the rows, and deletes what the broker has acknowledged in the transaction
that read it: a crash between the two writes some records again, which their version tells.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, LiteralString

from psycopg import AsyncCursor

from processors.postgres.writes import PostgresWrites
from processors.runtime.dead_letters import LogWriter, OutgoingRecord
from schemas.access.credentials import CurrentCredentials
from schemas.ids import EPOCH
from schemas.jobs.codec import CHANGE_CODEC, REPORT_CODEC
from schemas.jobs.records import JobChanged, JobOutput, JobProgress
from schemas.jobs.states import EndReason, JobStatus
from schemas.jobs.topics import JOB_EVENTS, JOB_REPORTS
from schemas.kafka import headers
from schemas.kafka.seal import record_mac
from schemas.kafka.topics import Topic

ROWS_MAX = 1000

LOCK = "SELECT pg_try_advisory_xact_lock(hashtext(%s))"
TAKE_CHANGES = """
    WITH taken AS (
        DELETE FROM job_changes
        WHERE seq = ANY(ARRAY(SELECT seq FROM job_changes ORDER BY seq LIMIT %(limit)s))
        RETURNING *
    )
    SELECT job_id::text, tenant_id, version, type, queue, status, reason, priority, attempts, duplicate_of::text, error,
        at
    FROM taken ORDER BY seq
"""
TAKE_REPORTS = """
    WITH taken AS (
        DELETE FROM job_reports
        WHERE seq = ANY(ARRAY(SELECT seq FROM job_reports ORDER BY seq LIMIT %(limit)s))
        RETURNING *
    )
    SELECT job_id::text, tenant_id, attempt_id::text, fraction, message, output, at FROM taken ORDER BY seq
"""


class Relay:
    """A relay of the rows of one table to one topic."""

    def __init__(
        self,
        writes: PostgresWrites,
        writer: LogWriter,
        *,
        topic: Topic,
        take: LiteralString,
        record_of: Callable[[Sequence[Any]], OutgoingRecord],
        published: Callable[[int], None],
    ) -> None:
        """Turn what *take* deletes into records of *topic*; *published* is given how many."""
        self._writes = writes
        self._writer = writer
        self._topic = topic
        self._take = take
        self._record_of = record_of
        self._published = published

    async def go_on(self) -> bool:
        """
        Write the oldest rows to the log; return True if there may be more.

        Raises:
            Transient: Kafka or Postgres is away. Nothing is lost, and some may be written again.
        """
        async with self._writes.transaction() as (connection, goes_on), connection.cursor() as cursor:
            if not await self._is_alone(cursor):
                return False
            await cursor.execute(self._take, {"limit": ROWS_MAX})
            rows = await cursor.fetchall()
            if rows:
                goes_on()
                await self._writer.write(self._topic, [self._record_of(row) for row in rows])
        self._published(len(rows))
        return len(rows) == ROWS_MAX

    async def _is_alone(self, cursor: AsyncCursor[Any]) -> bool:
        await cursor.execute(LOCK, [f"relay {self._topic.name}"])
        row = await cursor.fetchone()
        return row is not None and bool(row[0])


def change_record(row: Sequence[Any], credentials: CurrentCredentials) -> OutgoingRecord:
    """Return the record of jobs.events for a row that TAKE_CHANGES returns."""
    job_id, tenant, version, task_type, queue, status, reason, priority, attempts, duplicate_of, error, at = row
    changed = JobChanged(
        tenant=tenant,
        job_id=job_id,
        version=version,
        type=task_type,
        queue=queue,
        status=JobStatus(status),
        reason=None if reason is None else EndReason(reason),
        priority=priority,
        attempts=attempts,
        duplicate_of=duplicate_of,
        error=error,
        at_ms=_milliseconds(at),
    )
    value = CHANGE_CODEC.encode(changed)
    record_id = f"jch_{job_id}_{version}"
    return sealed_record(
        JOB_EVENTS, record_id=record_id, key=job_id.encode(), tenant=tenant, value=value, by=credentials
    )


def report_record(row: Sequence[Any], credentials: CurrentCredentials) -> OutgoingRecord:
    """Return the record of jobs.reports for a row that TAKE_REPORTS returns."""
    job_id, tenant, attempt_id, fraction, message, output, at = row
    at_ms = _milliseconds(at)
    report: JobProgress | JobOutput
    if output is None:
        report = JobProgress(
            tenant=tenant, job_id=job_id, attempt_id=attempt_id, fraction=fraction, message=message, at_ms=at_ms
        )
    else:
        report = JobOutput(tenant=tenant, job_id=job_id, attempt_id=attempt_id, text=output, at_ms=at_ms)
    value = REPORT_CODEC.encode(report)
    record_id = f"jrp_{attempt_id}_{at_ms}"
    return sealed_record(
        JOB_REPORTS, record_id=record_id, key=job_id.encode(), tenant=tenant, value=value, by=credentials
    )


def sealed_record(
    topic: Topic, *, record_id: str, key: bytes, tenant: str, value: bytes, by: CurrentCredentials
) -> OutgoingRecord:
    """Return a record of ours, sealed with the gateways' secret, so that its readers trust it."""
    owner = tenant.encode()
    mac = record_mac(by().gateway.mac_secrets[0], topic=topic.name, key=key, tenant=owner, value=value)
    return OutgoingRecord(
        key=key,
        value=value,
        headers=[(headers.EVENT_ID, record_id.encode()), (headers.TENANT, owner), (headers.GATEWAY_MAC, mac)],
    )


def _milliseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(milliseconds=1)
