"""
Streams of background jobs: one job, or all jobs of a tenant; states, progress and output.

States come from a compacted topic. Where older ones are gone from it, the next one that is left is the right one: a
state says all that there is to say of its job.
"""

from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from processors.fanout.messages import Kind, StreamRecord
from processors.fanout.streams.contract import Source, Stream, unsealed
from schemas.jobs.codec import CHANGE_CODEC, REPORT_CODEC
from schemas.jobs.records import JobChanged, JobOutput, JobProgress
from schemas.jobs.topics import JOB_EVENTS, JOB_REPORTS
from schemas.kafka.places import Partition

TASK, TASKS = "task", "tasks"
JOBS_MAX = 10_000  # whose versions one socket remembers; beyond it the job heard of longest ago is forgotten

_KINDS = {JobChanged: Kind.TASK_STATE, JobProgress: Kind.TASK_PROGRESS, JobOutput: Kind.TASK_OUTPUT}


class JobStreamRecord(StreamRecord):
    """A record of a job: its state after a change, or what an attempt reports."""

    __slots__ = ("value",)

    def __init__(
        self, value: JobChanged | JobProgress | JobOutput, *, partition: Partition, offset: int, timestamp_ms: int
    ) -> None:
        """Hold *value*, found at *offset* of *partition*."""
        super().__init__(
            _KINDS[type(value)],
            ((TASK, value.tenant, value.job_id), (TASKS, value.tenant, "")),
            seq=value.version if isinstance(value, JobChanged) else 0,
            partition=partition,
            offset=offset,
            timestamp_ms=timestamp_ms,
        )
        self.value = value

    @property
    def held_characters(self) -> int:
        """See `StreamRecord.held_characters`."""
        return len(self.value.text) if isinstance(self.value, JobOutput) else 0

    def members(self) -> Mapping[str, Any]:
        """See `StreamRecord.members`."""
        job = self.value
        return {"task_id": job.job_id, "at": _rfc3339(job.at_ms), **_content(job), "wal_id": self.wal_id}


class JobSelection:
    """
    The records of jobs for one socket: of each job's states only those newer than the last one that was sent.

    A change may stand in the log twice, since its relay may be stopped between writing it and noting that. What is
    forgotten may be sent again, never lost.
    """

    __slots__ = ("_jobs_max", "_versions")

    def __init__(self, _agents: frozenset[str] | None = None, *, jobs_max: int = JOBS_MAX) -> None:
        """Remember nothing yet."""
        self._jobs_max = jobs_max
        self._versions: OrderedDict[str, int] = OrderedDict()

    def takes(self, record: StreamRecord) -> bool:
        """See `Selection.takes`."""
        assert isinstance(record, JobStreamRecord), "its key is that of jobs"
        if record.kind is not Kind.TASK_STATE:
            return True
        job_id = record.value.job_id
        if record.seq <= self._versions.get(job_id, 0):
            return False
        self._versions[job_id] = record.seq
        self._versions.move_to_end(job_id)
        if len(self._versions) > self._jobs_max:
            self._versions.popitem(last=False)
        return True


def _content(job: JobChanged | JobProgress | JobOutput) -> Mapping[str, Any]:
    match job:
        case JobChanged():
            return {
                "version": job.version,
                "task_type": job.type,  # `type` is the message's own
                "queue": job.queue,
                "status": job.status,
                "reason": job.reason,
                "priority": job.priority,
                "attempts": job.attempts,
                "duplicate_of": job.duplicate_of,
                "error": job.error,
            }
        case JobProgress():
            return {"attempt_id": job.attempt_id, "fraction": job.fraction, "message": job.message}
        case JobOutput():
            return {"attempt_id": job.attempt_id, "text": job.text}


def _rfc3339(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _job_keys(_tenant: str, job_id: str) -> Mapping[str, bytes | None]:
    return {JOB_EVENTS.name: job_id.encode(), JOB_REPORTS.name: job_id.encode()}


def _all_jobs(_tenant: str, _name: str) -> Mapping[str, bytes | None]:
    return {JOB_EVENTS.name: None, JOB_REPORTS.name: None}


def _is_sent(record: JobChanged | JobProgress | JobOutput, key: bytes | None) -> bool:
    return key == record.job_id.encode()


SOURCES = (
    Source(topic=JOB_EVENTS, codec=CHANGE_CODEC, check=unsealed, is_sent=_is_sent, record=JobStreamRecord),
    Source(topic=JOB_REPORTS, codec=REPORT_CODEC, check=unsealed, is_sent=_is_sent, record=JobStreamRecord),
)
STREAMS = (
    Stream(name=TASK, path="/ws/tasks/{name}", record_keys=_job_keys, select=JobSelection, spans_agents=True),
    Stream(name=TASKS, path="/ws/tasks", record_keys=_all_jobs, select=JobSelection, spans_agents=True),
)
