"""Progress and output of running attempts, stored together once a second for whoever watches."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from processors.jobs.executor.attempts import Attempt
from processors.postgres.writes import PostgresWrites

# Shown with the job, and never written out for: the next one comes in a second.
UPDATE_PROGRESS = """
    UPDATE job_running SET fraction = reported.fraction, message = reported.message
    FROM unnest(%(jobs)s::uuid[], %(attempts)s::uuid[], %(fractions)s::real[], %(messages)s::text[])
        AS reported (job_id, attempt_id, fraction, message)
    WHERE job_running.job_id = reported.job_id AND job_running.attempt_id = reported.attempt_id
"""
INSERT_REPORTS = """
    INSERT INTO job_reports (job_id, tenant_id, attempt_id, fraction, message, output)
    SELECT * FROM unnest(%(jobs)s::uuid[], %(tenants)s::text[], %(attempts)s::uuid[], %(fractions)s::real[],
        %(messages)s::text[], %(outputs)s::text[])
"""


class _Report(NamedTuple):
    job_id: UUID
    tenant: str
    attempt_id: UUID
    fraction: float | None
    message: str | None
    output: str | None


class Reports:
    """The reports of one executor."""

    def __init__(self, writes: PostgresWrites) -> None:
        """Store by the connections of *writes*."""
        self._writes = writes

    async def store(self, attempts: Sequence[Attempt]) -> None:
        """Store what *attempts* reported since the last call. Raises Transient: it is lost, and the next one comes."""
        reports = [report for attempt in attempts for report in _reports(attempt)]
        if not reports:
            return
        async with self._writes.transaction() as (connection, _):
            await connection.execute("SET LOCAL synchronous_commit = off")
            if progress := [report for report in reports if report.output is None]:
                await connection.execute(UPDATE_PROGRESS, _columns(progress))
            await connection.execute(INSERT_REPORTS, _columns(reports))


def _reports(attempt: Attempt) -> Sequence[_Report]:
    claimed = attempt.claimed
    found: list[_Report] = []
    if (reported := attempt.reported) is not None:
        attempt.reported = None
        found.append(
            _Report(
                claimed.job_id, claimed.tenant, claimed.attempt_id, reported.fraction, reported.message, output=None
            )
        )
    if (output := attempt.output.take_live()) is not None:
        found.append(_Report(claimed.job_id, claimed.tenant, claimed.attempt_id, None, None, output))
    return found


def _columns(reports: Sequence[_Report]) -> dict[str, Any]:
    return {
        "jobs": [report.job_id for report in reports],
        "tenants": [report.tenant for report in reports],
        "attempts": [report.attempt_id for report in reports],
        "fractions": [report.fraction for report in reports],
        "messages": [report.message for report in reports],
        "outputs": [report.output for report in reports],
    }
