"""The outboxes of jobs: rows that executors and intake leave behind become records of jobs.events and jobs.reports."""

from collections.abc import Sequence
from typing import Any

from processors.runtime.dead_letters import OutgoingRecord
from processors.runtime.sealing import sealed_record
from schemas.access.credentials import CurrentCredentials
from schemas.ids import milliseconds_of
from schemas.jobs.codec import CHANGE_CODEC, REPORT_CODEC
from schemas.jobs.records import JobChanged, JobOutput, JobProgress
from schemas.jobs.states import EndReason, JobStatus
from schemas.jobs.topics import JOB_EVENTS, JOB_REPORTS

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
        at_ms=milliseconds_of(at),
    )
    value = CHANGE_CODEC.encode(changed)
    record_id = f"jch_{job_id}_{version}"
    return sealed_record(
        JOB_EVENTS, record_id=record_id, key=job_id.encode(), tenant=tenant, value=value, by=credentials
    )


def report_record(row: Sequence[Any], credentials: CurrentCredentials) -> OutgoingRecord:
    """Return the record of jobs.reports for a row that TAKE_REPORTS returns."""
    job_id, tenant, attempt_id, fraction, message, output, at = row
    at_ms = milliseconds_of(at)
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
