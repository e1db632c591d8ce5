"""Jobs for tests: requests about them, the commands in the log, and rows as the store shows them."""

import json
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Protocol

import msgspec
from aiohttp import ClientSession

from gateway.jobs.views import JobView, OperationView, QueueView, ScheduleView
from schemas.jobs.codec import COMMAND_CODEC
from schemas.jobs.records import Command
from schemas.jobs.states import JobAction, JobStatus
from schemas.jobs.types import MIB, TaskType
from tests.support.fakes import RecordingPublisher

NOW = datetime(2025, 12, 5, 10, 0, 0, 123000, UTC)  # of the gateway under test
JOB = "0190e3a0-0000-7000-8000-000000000001"
OTHER_JOB = "0190e3a0-0000-7000-8000-000000000002"
SCHEDULE = "0190e3a0-0000-4000-8000-000000000003"


class GreetParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of a type of the user's own."""

    name: str
    times: int = 1

    def __post_init__(self) -> None:
        """Refuse what the schema cannot say."""
        if self.name == "nobody":
            raise ValueError("nobody cannot be greeted")


GREET = TaskType(name="shop/greet", function="shop.tasks:greet", parameters=GreetParameters, memory_bytes_max=64 * MIB)
GREETING = "tests.support.job_views:GREET"  # as the setting names it


class Asked(Protocol):
    """A gateway under test, as these functions use it."""

    @property
    def client(self) -> ClientSession:
        """Return a client of it."""

    @property
    def publisher(self) -> RecordingPublisher:
        """Return the log behind it."""

    def headers(self, key: str = "all", **more: str) -> dict[str, str]:
        """Return headers that show a key."""


async def ask(
    served: Asked, method: str, path: str, body: Any = None, *, key: str = "all", **headers: str
) -> tuple[int, Any]:
    """Return the status and the decoded body of an answer; *body* is sent as JSON, or as it is."""
    text = body if isinstance(body, (str, bytes)) or body is None else json.dumps(body)
    sent = ({} if text is None else {"Content-Type": "application/json"}) | headers
    encoded = text.encode() if isinstance(text, str) else text
    data = None if encoded is None else BytesIO(encoded)  # aiohttp warns of a large body that is no file
    async with served.client.request(method, path, data=data, headers=served.headers(key, **sent)) as answer:
        return answer.status, await answer.json(content_type=None)


def commands(served: Asked) -> list[Command]:
    """Return the commands in the log."""
    return [COMMAND_CODEC.decode(record.value) for _, record in served.publisher.log]


def job_view(job_id: str = JOB, **changes: Any) -> JobView:
    """Return a stored job that waits."""
    fields: dict[str, Any] = {
        "task_id": job_id,
        "type": "echo",
        "queue": "default",
        "status": JobStatus.PENDING,
        "reason": None,
        "priority": 5,
        "metadata": None,
        "tags": [],
        "user_id": None,
        "dedupe_key": None,
        "max_attempts": 3,
        "timeout_s": None,
        "run_at": NOW,
        "expires_at": None,
        "generation": 1,
        "attempts": 0,
        "runs": 0,
        "lost": 0,
        "snoozes": 0,
        "version": 1,
        "error_type": None,
        "error": None,
        "summary": None,
        "schedule_id": None,
        "submitted_by": None,
        "created_at": NOW,
        "started_at": None,
        "finished_at": None,
        "duplicate_of": None,
        "progress": None,
        "cancel_requested": False,
        "parameters": msgspec.Raw(b'{"value": 1}'),
        "attempt_history": [],
        "traceparent": None,
    }
    return JobView(**(fields | changes))


def queue_view(queue: str = "default", **changes: Any) -> QueueView:
    """Return a queue that is empty and served."""
    fields: dict[str, Any] = {
        "queue": queue,
        "paused": False,
        "paused_at": None,
        "paused_until": None,
        "pause_reason": None,
        "max_running": None,
        "max_running_per_tenant": None,
        "step_s": 60.0,
        "ready": 0,
        "delayed": 0,
        "running": 0,
        "oldest_ready_s": None,
        "executors": 1,
    }
    return QueueView(**(fields | changes))


def schedule_view(name: str = "nightly", *, schedule_id: str = SCHEDULE, task_type: str = "echo") -> ScheduleView:
    """Return a stored schedule."""
    definition = {"name": name, "cron": "30 2 * * *", "type": task_type}
    return ScheduleView(
        schedule_id=schedule_id,
        name=name,
        definition=msgspec.Raw(msgspec.json.encode(definition)),
        paused_at=None,
        next_at=NOW,
        next_times=[NOW],
        last_fired_at=None,
        last_task_id=None,
        created_by="key",
        created_at=NOW,
        updated_at=NOW,
    )


def operation_view(operation_id: str = JOB) -> OperationView:
    """Return an operation that is half done."""
    return OperationView(
        operation_id=operation_id,
        action=JobAction.CANCEL,
        priority=None,
        filter=msgspec.Raw(b"{}"),
        job_count=2,
        done_count=1,
        refused_count=0,
        started_by="key",
        created_at=NOW,
        finished_at=None,
    )
