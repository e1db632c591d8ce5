"""The types of the records of jobs, and the codecs of the topics that carry them."""

from typing import Any

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
)
from schemas.jobs.states import EndReason, JobAction, JobStatus, QueueAction, ScheduleAction
from schemas.kafka.codec import Codec, RecordType


def _reason(symbol: Any) -> EndReason | None:
    return None if symbol is None else EndReason(symbol)


SUBMIT_JOB = RecordType(name="tidegate.jobs.SubmitJob", cls=SubmitJob, converters={"tags": tuple})
CHANGE_JOB = RecordType(name="tidegate.jobs.ChangeJob", cls=ChangeJob, converters={"action": JobAction})
CHANGE_QUEUE = RecordType(name="tidegate.jobs.ChangeQueue", cls=ChangeQueue, converters={"action": QueueAction})
CHANGE_SCHEDULE = RecordType(
    name="tidegate.jobs.ChangeSchedule", cls=ChangeSchedule, converters={"action": ScheduleAction}
)
START_OPERATION = RecordType(name="tidegate.jobs.StartOperation", cls=StartOperation, converters={"action": JobAction})
JOB_CHANGED = RecordType(
    name="tidegate.jobs.JobChanged", cls=JobChanged, converters={"status": JobStatus, "reason": _reason}
)
JOB_PROGRESS = RecordType(name="tidegate.jobs.JobProgress", cls=JobProgress)
JOB_OUTPUT = RecordType(name="tidegate.jobs.JobOutput", cls=JobOutput)

COMMANDS = (SUBMIT_JOB, CHANGE_JOB, CHANGE_QUEUE, CHANGE_SCHEDULE, START_OPERATION)
REPORTS = (JOB_PROGRESS, JOB_OUTPUT)

COMMAND_CODEC: Codec[Command] = Codec(COMMANDS)
CHANGE_CODEC: Codec[JobChanged] = Codec((JOB_CHANGED,))
REPORT_CODEC: Codec[JobProgress | JobOutput] = Codec(REPORTS)
