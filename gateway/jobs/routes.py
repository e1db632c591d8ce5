"""The routes of jobs."""

from typing import Annotated

from msgspec import Meta

from gateway.http.bodies import BATCHES
from gateway.http.paging import BY_CURSOR, MEMBER_CHARACTERS_MAX
from gateway.http.refusals import KEYED, READS, WRITES
from gateway.http.routes import BodySpec, Chapter, Parameter, Route
from gateway.http.waiting import wait_parameter
from gateway.jobs.handlers import changing, operations, queues, reading, schedules, submitting
from gateway.jobs.parameters import OFFSET_MAX
from gateway.jobs.parsing.changes import SCHEDULE_BYTES_MAX, OperationBody, PauseBody, PriorityBody, QueueBody
from gateway.jobs.parsing.submission import JobBody, JobOptions, Label, QueueName, Time, TypeName
from gateway.jobs.parts import JobParts
from gateway.jobs.views import (
    ChangeAnswer,
    HiddenJobView,
    JobAccepted,
    JobBatchAnswer,
    JobChangeAnswer,
    JobLogView,
    JobPage,
    JobsHealth,
    JobView,
    OperationAnswer,
    OperationPage,
    OperationView,
    QueueList,
    ScheduleAnswer,
    SchedulePage,
    ScheduleView,
    TaskTypeList,
)
from schemas.access.credentials import Right
from schemas.errors import ErrorCode
from schemas.jobs.cron import ScheduleDefinition
from schemas.jobs.rules import METADATA_BYTES_MAX, PARAMETERS_BYTES_MAX, REQUEST_BYTES_MAX
from schemas.jobs.states import EndReason, JobStatus
from schemas.jobs.topics import DOMAIN

# Parameters and metadata of the largest size, and room for the rest.
ONE_BYTES_MAX = PARAMETERS_BYTES_MAX + METADATA_BYTES_MAX + 16 * 1024
CHANGE_BYTES_MAX = 16 * 1024

_NAMES = tuple(group.name for group in DOMAIN.groups)
_WAIT = (wait_parameter(_NAMES),)
_PAGES = (
    *BY_CURSOR,
    Parameter(
        name="offset",
        type=Annotated[int, Meta(ge=0, le=OFFSET_MAX)],
        description="Instead of cursor: entries to skip, with a total beside the page",
    ),
)
_OF_QUEUE = Parameter(name="queue", type=QueueName, description="Only jobs of this queue")
_SUBMISSIONS = (
    *WRITES,
    ErrorCode.BAD_PARAMETERS,
    ErrorCode.IDEMPOTENCY_CONFLICT,
)
# What changes something asks what is stored first, and what the log has.
_CHANGES = (*WRITES, ErrorCode.STORE_UNAVAILABLE, ErrorCode.NOT_FOUND, ErrorCode.JOB_STATE)
_WITHOUT_BODY = (
    *KEYED,
    ErrorCode.BACKPRESSURE,
    ErrorCode.LOG_UNAVAILABLE,
    ErrorCode.STORE_UNAVAILABLE,
    ErrorCode.NOT_FOUND,
    ErrorCode.JOB_STATE,
)
_LOOKS_TWICE = (*READS, ErrorCode.BACKPRESSURE, ErrorCode.LOG_UNAVAILABLE, ErrorCode.NOT_FOUND)
_THERE_ALREADY = {200: "There is such a job already: `duplicate` is true"}

ROUTES: tuple[Route[JobParts], ...] = (
    Route(
        method="POST",
        path="/api/tasks",
        handler=submitting.submit_task,
        answer=JobAccepted,
        status=202,
        also=_THERE_ALREADY,
        right=Right.INGEST,
        body=BodySpec(type=JobBody, bytes_max=ONE_BYTES_MAX),
        query=_WAIT,
        refusals=_SUBMISSIONS,
    ),
    Route(
        method="POST",
        path="/api/tasks/batch",
        handler=submitting.submit_tasks,
        answer=JobBatchAnswer,
        status=202,
        also={207: "Not all of the jobs are accepted"},
        right=Right.INGEST,
        body=BodySpec(type=list[JobBody], bytes_max=REQUEST_BYTES_MAX, media_types=BATCHES),
        query=_WAIT,
        refusals=WRITES,
    ),
    Route(
        method="POST",
        path="/api/tasks/{family}/{name}",
        handler=submitting.submit_task_of_type,
        answer=JobAccepted,
        status=202,
        also=_THERE_ALREADY,
        right=Right.INGEST,
        body=BodySpec(type=JobOptions, bytes_max=ONE_BYTES_MAX),
        query=_WAIT,
        refusals=_SUBMISSIONS,
    ),
    Route(
        method="GET",
        path="/api/tasks/status/{task_id}",
        handler=reading.show_task_status,
        answer=(JobView, HiddenJobView),
        right=Right.READ,
        refusals=_LOOKS_TWICE,
    ),
    Route(
        method="GET",
        path="/api/tasks/logs/{task_id}",
        handler=reading.show_task_log,
        answer=JobLogView,
        right=Right.READ,
        query=(
            Parameter(
                name="attempt",
                type=Annotated[int, Meta(ge=1)],
                description="The number of the attempt; the newest that ended by default",
            ),
        ),
        refusals=(*READS, ErrorCode.NOT_FOUND),
    ),
    Route(
        method="GET",
        path="/api/tasks/list",
        handler=reading.list_tasks,
        answer=JobPage,
        right=Right.READ,
        query=(
            Parameter(
                name="status",
                type=Annotated[str, Meta(extra_json_schema={"enum": list(JobStatus)})],
                description="Only jobs of this status",
            ),
            Parameter(name="type", type=TypeName, description="Only jobs of this type"),
            _OF_QUEUE,
            Parameter(name="user_id", type=Label, description="Only jobs for this user"),
            Parameter(name="tag", type=Label, description="Only jobs with this tag"),
            Parameter(
                name="reason",
                type=Annotated[str, Meta(extra_json_schema={"enum": list(EndReason)})],
                description="Only jobs with this reason",
            ),
            Parameter(name="dedupe_key", type=Label, description="Only jobs that were sent with this key"),
            Parameter(name="from", type=Time, description="Only jobs created at this time (RFC 3339) or later"),
            Parameter(name="to", type=Time, description="Only jobs created before this time (RFC 3339)"),
            Parameter(
                name="metadata",
                type=Annotated[str, Meta(max_length=MEMBER_CHARACTERS_MAX, examples=["order.id=17"])],
                description="Only jobs with this in their metadata: path=value, the value as JSON, or else a text",
            ),
            *_PAGES,
        ),
        refusals=READS,
    ),
    Route(
        method="GET",
        path="/api/tasks/pending",
        handler=reading.list_pending_tasks,
        answer=JobPage,
        right=Right.READ,
        query=(_OF_QUEUE, *_PAGES),
        refusals=READS,
    ),
    Route(
        method="GET",
        path="/api/tasks/failed",
        handler=reading.list_failed_tasks,
        answer=JobPage,
        right=Right.READ,
        query=(_OF_QUEUE, *_PAGES),
        refusals=READS,
    ),
    Route(
        method="GET",
        path="/api/tasks/types",
        handler=reading.list_task_types,
        answer=TaskTypeList,
        right=Right.READ,
        refusals=KEYED,
    ),
    Route(
        method="GET",
        path="/api/tasks/health",
        handler=reading.show_tasks_health,
        answer=JobsHealth,
        right=Right.READ,
        refusals=READS,
    ),
    Route(
        method="DELETE",
        path="/api/tasks/{task_id}",
        handler=changing.cancel_task,
        answer=JobChangeAnswer,
        also={202: "It runs, and is being cancelled; or intake has not come to the command yet"},
        right=Right.INGEST,
        refusals=_WITHOUT_BODY,
    ),
    Route(
        method="PATCH",
        path="/api/tasks/{task_id}",
        handler=changing.reprioritise_task,
        answer=JobChangeAnswer,
        also={202: "Intake has not come to the command yet"},
        right=Right.INGEST,
        body=BodySpec(type=PriorityBody, bytes_max=CHANGE_BYTES_MAX),
        refusals=_CHANGES,
    ),
    Route(
        method="POST",
        path="/api/tasks/{task_id}/retry",
        handler=changing.retry_task,
        answer=JobChangeAnswer,
        status=202,
        right=Right.INGEST,
        refusals=_WITHOUT_BODY,
    ),
    Route(
        method="POST",
        path="/api/tasks/operations",
        handler=operations.start_operation,
        answer=OperationAnswer,
        status=202,
        also={200: "Of a dry run: how many jobs match"},
        right=Right.INGEST,
        body=BodySpec(type=OperationBody, bytes_max=CHANGE_BYTES_MAX),
        refusals=(*WRITES, ErrorCode.STORE_UNAVAILABLE, ErrorCode.JOB_STATE),
    ),
    Route(
        method="GET",
        path="/api/tasks/operations",
        handler=operations.list_operations,
        answer=OperationPage,
        right=Right.READ,
        query=BY_CURSOR,
        refusals=READS,
    ),
    Route(
        method="GET",
        path="/api/tasks/operations/{operation_id}",
        handler=operations.show_operation,
        answer=OperationView,
        right=Right.READ,
        refusals=_LOOKS_TWICE,
    ),
    Route(
        method="GET",
        path="/api/tasks/queues",
        handler=queues.list_queues,
        answer=QueueList,
        right=Right.READ,
        refusals=READS,
    ),
    Route(
        method="POST",
        path="/api/tasks/queues/{queue}/pause",
        handler=queues.pause_queue,
        answer=ChangeAnswer,
        status=202,
        right=Right.ADMIN,
        body=BodySpec(type=PauseBody, bytes_max=CHANGE_BYTES_MAX),
        refusals=_CHANGES,
    ),
    Route(
        method="POST",
        path="/api/tasks/queues/{queue}/resume",
        handler=queues.resume_queue,
        answer=ChangeAnswer,
        status=202,
        right=Right.ADMIN,
        refusals=_WITHOUT_BODY,
    ),
    Route(
        method="PUT",
        path="/api/tasks/queues/{queue}",
        handler=queues.configure_queue,
        answer=ChangeAnswer,
        status=202,
        right=Right.ADMIN,
        body=BodySpec(type=QueueBody, bytes_max=CHANGE_BYTES_MAX),
        refusals=(*WRITES, ErrorCode.JOB_STATE),
    ),
    Route(
        method="GET",
        path="/api/tasks/schedules",
        handler=schedules.list_schedules,
        answer=SchedulePage,
        right=Right.READ,
        query=BY_CURSOR,
        refusals=READS,
    ),
    Route(
        method="POST",
        path="/api/tasks/schedules",
        handler=schedules.create_schedule,
        answer=ScheduleAnswer,
        status=202,
        right=Right.INGEST,
        body=BodySpec(type=ScheduleDefinition, bytes_max=SCHEDULE_BYTES_MAX),
        refusals=(*WRITES, ErrorCode.BAD_PARAMETERS, ErrorCode.JOB_STATE),
    ),
    Route(
        method="GET",
        path="/api/tasks/schedules/{schedule_id}",
        handler=schedules.show_schedule,
        answer=ScheduleView,
        right=Right.READ,
        refusals=_LOOKS_TWICE,
    ),
    Route(
        method="PUT",
        path="/api/tasks/schedules/{schedule_id}",
        handler=schedules.replace_schedule,
        answer=ScheduleAnswer,
        status=202,
        right=Right.INGEST,
        body=BodySpec(type=ScheduleDefinition, bytes_max=SCHEDULE_BYTES_MAX),
        refusals=(*_CHANGES, ErrorCode.BAD_PARAMETERS),
    ),
    Route(
        method="DELETE",
        path="/api/tasks/schedules/{schedule_id}",
        handler=schedules.delete_schedule,
        answer=ChangeAnswer,
        status=202,
        right=Right.INGEST,
        refusals=_WITHOUT_BODY,
    ),
    Route(
        method="POST",
        path="/api/tasks/schedules/{schedule_id}/pause",
        handler=schedules.pause_schedule,
        answer=ChangeAnswer,
        status=202,
        right=Right.INGEST,
        refusals=_WITHOUT_BODY,
    ),
    Route(
        method="POST",
        path="/api/tasks/schedules/{schedule_id}/resume",
        handler=schedules.resume_schedule,
        answer=ChangeAnswer,
        status=202,
        right=Right.INGEST,
        refusals=_WITHOUT_BODY,
    ),
    Route(
        method="POST",
        path="/api/tasks/schedules/{schedule_id}/run",
        handler=schedules.run_schedule,
        answer=ChangeAnswer,
        status=202,
        right=Right.INGEST,
        refusals=_WITHOUT_BODY,
    ),
)

CHAPTER: Chapter[JobParts] = Chapter(
    tag="jobs",
    description="Background jobs: submit tasks, follow them, and change them, their queues and their schedules.",
    routes=ROUTES,
)
