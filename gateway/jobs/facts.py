"""Fact readers for the record types of jobs."""

from gateway.kafka.facts import FactReaders, RecordFacts
from schemas.jobs.records import (
    ChangeJob,
    ChangeQueue,
    ChangeSchedule,
    Command,
    JobChanged,
    JobOutput,
    JobProgress,
    StartOperation,
    SubmitJob,
    record_id,
)


def _of_command(command: Command) -> RecordFacts:
    return RecordFacts(command.tenant, record_id(command))


def _of_report(report: JobChanged | JobProgress | JobOutput) -> RecordFacts:
    return RecordFacts(report.tenant, f"job_{report.job_id}")


FACT_READERS: FactReaders = {
    **dict.fromkeys((SubmitJob, ChangeJob, ChangeQueue, ChangeSchedule, StartOperation), _of_command),
    **dict.fromkeys((JobChanged, JobProgress, JobOutput), _of_report),
}
