"""The API's responses about jobs, their queues, schedules and operations."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas.access.credentials import Right
from schemas.errors import ErrorCode, Fault
from schemas.jobs.states import AttemptOutcome, EndReason, JobAction, JobStatus

JobId = Annotated[str, Meta(description="The job: a UUID")]
JobWalId = Annotated[
    str, Meta(description="The receipt of the command: topic/partition/offset", examples=["jobs.commands/3/1042"])
]
JobWaited = Annotated[bool, Meta(description="With ?wait: whether the group has committed past the record")]
Counted = Annotated[int, Meta(description="Counted to 10,000")]


class JobLinks(msgspec.Struct, frozen=True, kw_only=True):
    """The paths of one job."""

    status: Annotated[str, Meta(description="GET it")]
    cancel: Annotated[str, Meta(description="DELETE it")]
    events: Annotated[str, Meta(description="The websocket with its state, progress and output")]


class JobAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """The job is in the log; with `duplicate`, it is the one that there was already."""

    task_id: JobId
    status: JobStatus = JobStatus.PENDING
    type: str
    queue: str
    created_at: datetime
    message: str
    wal_id: JobWalId | UnsetType = UNSET
    links: JobLinks
    duplicate: bool | UnsetType = UNSET
    waited: JobWaited | UnsetType = UNSET


class JobResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of one job of a batch."""

    status: Annotated[
        Literal["accepted", "duplicate", "rejected", "retry"],
        Meta(
            description="duplicate: task_id is the job that there was already; rejected: never send it as it is; "
            "retry: send it again later, the same"
        ),
    ]
    task_id: Annotated[str | None, Meta(description="Missing where the job is not valid")] = None
    wal_id: JobWalId | None = None
    code: ErrorCode | None = None
    detail: str | None = None
    errors: Sequence[Fault] = ()


class JobBatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of each job, in the order they were sent; with 207 not all of them are accepted."""

    results: Sequence[JobResult]
    waited: JobWaited | UnsetType = UNSET


class JobProgressView(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of the attempt that runs."""

    fraction: float | None
    message: str | None


class JobSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One job, without its parameters, attempts and result."""

    task_id: JobId
    type: str
    queue: str
    status: JobStatus
    reason: Annotated[
        EndReason | None, Meta(description="Beside failed and cancelled; of a pending job, why its last attempt failed")
    ]
    priority: int
    metadata: msgspec.Raw | None
    tags: Sequence[str]
    user_id: str | None
    dedupe_key: str | None
    max_attempts: int
    timeout_s: float | None
    run_at: Annotated[datetime, Meta(description="Not started before")]
    expires_at: datetime | None
    generation: Annotated[int, Meta(description="Grows with each retry by hand")]
    attempts: Annotated[int, Meta(description="That failed, of this generation")]
    runs: Annotated[int, Meta(description="Attempts of any outcome, of all generations")]
    lost: Annotated[int, Meta(description="Attempts whose executor was lost, of this generation")]
    snoozes: int
    version: Annotated[int, Meta(description="Grows with each change, as in jobs.events")]
    error_type: str | None
    error: str | None
    summary: Annotated[msgspec.Raw | None, Meta(description="Of the result; kept when the result is not")]
    schedule_id: str | None
    submitted_by: Annotated[str | None, Meta(description="The id of the API key")]
    created_at: datetime
    started_at: Annotated[datetime | None, Meta(description="When its last attempt was claimed")]
    finished_at: datetime | None
    duplicate_of: Annotated[str | None, Meta(description="The job that had the dedupe_key")]
    progress: JobProgressView | None
    cancel_requested: Annotated[bool, Meta(description="It runs still, and is being cancelled")]


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs."""

    tasks: Annotated[
        Sequence[JobSummary],
        Meta(description="With filters a page may hold fewer than `limit`, even none, and go on by its cursor"),
    ]
    next_cursor: Annotated[str | None, Meta(description="Where the next page begins; null on the last")]
    limit: Annotated[int | UnsetType, Meta(description="With ?offset: entries a page")] = UNSET
    offset: Annotated[int | UnsetType, Meta(description="With ?offset: how many precede it")] = UNSET
    total_count: Annotated[int | UnsetType, Meta(description="With ?offset: how many there are")] = UNSET
    total_is_estimate: Annotated[
        bool | UnsetType, Meta(description="With ?offset: true if there may be more than were counted")
    ] = UNSET


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a job that ended."""

    attempt_id: str
    number: int
    generation: int
    executor_id: str
    outcome: AttemptOutcome
    reason: EndReason | None
    error_type: str | None
    error: str | None
    traceback: str | None
    log_tail: Annotated[str | None, Meta(description="The last 8 KiB that it wrote; GET /api/tasks/logs has all")]
    cpu_s: float | None
    peak_bytes: int | None
    claimed_at: datetime
    started_at: Annotated[datetime | None, Meta(description="Null: its executor was lost, or gave it back unrun")]
    finished_at: datetime
    duration_s: Annotated[float | None, Meta(description="From its start to its end")]


class JobView(JobSummary, frozen=True, kw_only=True):
    """One job with all that is known of it."""

    parameters: Annotated[msgspec.Raw, Meta(description="The text that was sent")]
    result: Annotated[msgspec.Raw | UnsetType, Meta(description="Of a completed job, while it is kept")] = UNSET
    result_expired: Annotated[bool | UnsetType, Meta(description="The result is no longer kept")] = UNSET
    attempt_history: Annotated[Sequence[AttemptView], Meta(description="The newest first, 100 at most")]
    position: Annotated[
        int | UnsetType, Meta(description="Of a job that could run: jobs of its queue and tenant before it, to 1,000")
    ] = UNSET
    traceparent: str | None
    links: JobLinks | UnsetType = UNSET
    visible: bool = True


class HiddenJobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job that may be in the log, and that intake has not come to."""

    task_id: JobId
    status: Literal["pending"] = "pending"
    visible: bool = False
    links: JobLinks


class JobLogView(msgspec.Struct, frozen=True, kw_only=True):
    """The output of one attempt that ended."""

    task_id: JobId
    attempt: Annotated[int, Meta(description="1, 2, ... of the job")]
    log: Annotated[str, Meta(description="The head and the tail, with secrets masked")]


class JobChangeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a job is in the log."""

    task_id: JobId
    status: Annotated[
        Literal["pending", "running", "cancelled", "cancel_requested"],
        Meta(description="cancel_requested: it runs, or intake has not come to the command yet"),
    ]
    priority: Annotated[int | UnsetType, Meta(description="With PATCH")] = UNSET
    wal_id: JobWalId


class ChangeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a queue or schedule is in the log."""

    target: Annotated[str, Meta(description="The name of the queue, or the id of the schedule")]
    wal_id: JobWalId
    applied: Annotated[bool, Meta(description="True if intake has applied it; else it will soon")]


class TypeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a task type."""

    soft_limit_s: float
    hard_limit_s: float
    memory_bytes_max: int
    max_attempts: int


class TaskTypeView(msgspec.Struct, frozen=True, kw_only=True):
    """One task type."""

    type: str
    queue: str
    right: Right
    limits: TypeLimits
    schema: Annotated[Mapping[str, Any], Meta(description="JSON Schema (2020-12) of its parameters")]
    description: str


class TaskTypeList(msgspec.Struct, frozen=True, kw_only=True):
    """Every task type, by name."""

    types: Sequence[TaskTypeView]


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """One queue; it counts the caller's jobs, and to the right `admin` those of all tenants."""

    queue: str
    paused: bool
    paused_at: datetime | None
    paused_until: datetime | None
    pause_reason: str | None
    max_running: int | None
    max_running_per_tenant: int | None
    step_s: Annotated[float, Meta(description="Seconds of waiting that count as much as a level of priority")]
    ready: Annotated[Counted, Meta(description="Could run now")]
    delayed: Annotated[Counted, Meta(description="Wait for their time")]
    running: Counted
    oldest_ready_s: Annotated[
        float | None, Meta(description="For how long the jobs that go first have been ready; null where none is")
    ]
    executors: Annotated[int, Meta(description="That serve it and are alive")]


class QueueList(msgspec.Struct, frozen=True, kw_only=True):
    """Every queue."""

    queues: Sequence[QueueView]


class ExecutorView(msgspec.Struct, frozen=True, kw_only=True):
    """One executor that reported within the last ten minutes."""

    executor_id: str
    host: str
    pid: int
    version: str
    queues: Sequence[str]
    types: Sequence[str]
    slots: int
    busy: int
    is_draining: bool
    started_at: datetime
    silent_s: Annotated[float, Meta(description="Seconds since it last reported; it does every 5 s")]


class JobsHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The state of background jobs."""

    status: Literal["healthy", "degraded", "unhealthy"]
    problems: Sequence[str]
    intake_lag: Annotated[int | None, Meta(description="Commands that wait for intake; null: Kafka does not tell")]
    queues: Sequence[QueueView]
    executors: Sequence[ExecutorView]
    oldest_snapshot_s: Annotated[
        float | None,
        Meta(description="Age of the oldest transaction that keeps VACUUM away; null: the gateway's role may not see"),
    ]


class ScheduleView(msgspec.Struct, frozen=True, kw_only=True):
    """One schedule."""

    schedule_id: str
    name: str
    definition: msgspec.Raw
    paused_at: datetime | None
    next_at: Annotated[datetime | None, Meta(description="Null: it never fires again")]
    next_times: Annotated[Sequence[datetime], Meta(description="The next five, were it not paused")]
    last_fired_at: Annotated[datetime | None, Meta(description="The time that it stands for")]
    last_task_id: str | None
    created_by: str
    created_at: datetime
    updated_at: datetime


class SchedulePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of schedules, by name."""

    schedules: Sequence[ScheduleView]
    next_cursor: str | None


class ScheduleAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The definition of a schedule is in the log."""

    schedule_id: str
    wal_id: JobWalId
    applied: Annotated[bool, Meta(description="True if intake has applied it; else it will soon")]
    next_times: Annotated[Sequence[datetime], Meta(description="The next five")]


class OperationView(msgspec.Struct, frozen=True, kw_only=True):
    """An action on many jobs, and how far it is."""

    operation_id: str
    action: JobAction
    priority: int | None
    filter: msgspec.Raw
    job_count: Annotated[int, Meta(description="Jobs that matched when it was started")]
    done_count: int
    refused_count: Annotated[int, Meta(description="Jobs whose state did not allow it by then")]
    started_by: str
    created_at: datetime
    finished_at: datetime | None


class OperationPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of operations, the newest first."""

    operations: Sequence[OperationView]
    next_cursor: str | None


class OperationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An operation that is in the log; or of a dry run, what it would match."""

    operation_id: str | UnsetType = UNSET
    wal_id: JobWalId | UnsetType = UNSET
    applied: Annotated[bool | UnsetType, Meta(description="True if intake has started it; else it will soon")] = UNSET
    matches: Annotated[int | UnsetType, Meta(description="With dry_run: jobs that match now")] = UNSET
    is_estimate: Annotated[bool | UnsetType, Meta(description="With dry_run: there may be more")] = UNSET
