"""Changes of jobs, queues and schedules: the commands in the log, and what the state of things forbids."""

from typing import Any

import msgspec
import pytest

from gateway.errors import StoreUnavailable
from gateway.jobs.settings import JobSettings
from gateway.kafka.effect import Effect
from gateway.kafka.reader import Edges
from schemas.ids import uuid_fault
from schemas.jobs.filters import JobFilter
from schemas.jobs.records import ChangeJob, ChangeQueue, ChangeSchedule, StartOperation
from schemas.jobs.states import JobAction, JobStatus, QueueAction, ScheduleAction
from schemas.kafka.places import RecordPlace
from tests.support import builders
from tests.support.job_views import (
    JOB,
    OTHER_JOB,
    SCHEDULE,
    ask,
    commands,
    job_view,
    operation_view,
    queue_view,
    schedule_view,
)
from tests.unit.gateway.conftest import Served

DEFINITION: dict[str, Any] = {"name": "nightly", "cron": "30 2 * * 1-5", "timezone": "Europe/Berlin", "type": "echo"}
OPERATION: dict[str, Any] = {"filter": {"created_from": "2025-01-01T00:00:00Z"}, "action": "cancel"}


@pytest.fixture
def job_settings() -> JobSettings:
    """Return the settings by default."""
    return JobSettings()


def holding(served: Served, **changes: Any) -> None:
    """Store one job, and let intake be past whatever is written."""
    served.jobs.stored = {builders.TENANT: [job_view(**changes)]}
    served.log.edges_of, served.stored_commands.offsets = Edges(first=0, end=5), {0: 100}


def becoming(served: Served, **changes: Any) -> None:
    """Store one job that is changed as soon as there is a command."""
    holding(served)

    def applied() -> None:
        if served.publisher.log:
            served.jobs.stored = {builders.TENANT: [job_view(**changes)]}

    served.jobs.applied = applied


async def test_a_job_that_waits_is_cancelled_at_once(served: Served) -> None:
    becoming(served, status=JobStatus.CANCELLED)
    status, answer = await ask(served, "DELETE", f"/api/tasks/{JOB}", key="writer")
    assert (status, answer["status"], answer["task_id"]) == (200, "cancelled", JOB)
    [command], [(place, record)] = commands(served), served.publisher.log
    assert isinstance(command, ChangeJob)
    assert (command.tenant, command.job_id, command.action) == (builders.TENANT, JOB, JobAction.CANCEL)
    assert uuid_fault(command.command_id) is None
    assert (record.key, answer["wal_id"]) == (JOB.encode(), place.wal_id)


async def test_a_job_that_runs_is_being_cancelled(served: Served) -> None:
    becoming(served, status=JobStatus.RUNNING, cancel_requested=True)
    status, answer = await ask(served, "DELETE", f"/api/tasks/{JOB}")
    assert (status, answer["status"]) == (202, "cancel_requested")


async def test_a_job_that_ended_first_is_no_longer_cancelled(served: Served) -> None:
    becoming(served, status=JobStatus.COMPLETED)
    status, answer = await ask(served, "DELETE", f"/api/tasks/{JOB}")
    assert (status, answer["code"], answer["detail"]) == (409, "JOB_STATE", "the job is completed")


async def test_intake_may_refuse_and_may_be_late(served: Served) -> None:
    holding(served)
    served.jobs.effects[RecordPlace("jobs.commands", 0, 0)] = Effect(
        outcome="rejected", detail="refused: the job is completed"
    )
    status, answer = await ask(served, "DELETE", f"/api/tasks/{JOB}")
    assert (status, answer["detail"]) == (409, "refused: the job is completed")
    served.stored_commands.offsets = {0: 1}
    status, answer = await ask(served, "DELETE", f"/api/tasks/{JOB}")
    assert (status, answer["status"]) == (202, "cancel_requested")


@pytest.mark.parametrize("status_now", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED])
async def test_what_is_finished_is_not_cancelled_nor_reprioritised(served: Served, status_now: JobStatus) -> None:
    holding(served, status=status_now)
    for method, body in (("DELETE", None), ("PATCH", {"priority": 1})):
        status, answer = await ask(served, method, f"/api/tasks/{JOB}", body)
        assert (status, answer["code"]) == (409, "JOB_STATE")
    assert not served.publisher.log


async def test_failed_and_cancelled_jobs_are_retried(served: Served) -> None:
    for state in (JobStatus.FAILED, JobStatus.CANCELLED):
        holding(served, status=state)
        status, answer = await ask(served, "POST", f"/api/tasks/{JOB}/retry", key="writer")
        assert (status, answer["status"], answer["task_id"]) == (202, "pending", JOB)
    assert [command.action for command in commands(served) if isinstance(command, ChangeJob)] == [JobAction.RETRY] * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"status": JobStatus.PENDING},
        {"status": JobStatus.RUNNING},
        {"status": JobStatus.COMPLETED},
        {"status": JobStatus.CANCELLED, "duplicate_of": OTHER_JOB},
    ],
)
async def test_no_other_job_is_retried(served: Served, changes: dict[str, Any]) -> None:
    holding(served, **changes)
    status, answer = await ask(served, "POST", f"/api/tasks/{JOB}/retry")
    assert (status, answer["code"]) == (409, "JOB_STATE")
    assert not served.publisher.log


async def test_a_type_needs_its_right_to_be_retried(served: Served) -> None:
    holding(served, status=JobStatus.FAILED, type="maintenance/optimize-database")
    assert (await ask(served, "POST", f"/api/tasks/{JOB}/retry", key="writer"))[0] == 403
    assert (await ask(served, "POST", f"/api/tasks/{JOB}/retry"))[0] == 202


async def test_a_priority_is_changed(served: Served) -> None:
    holding(served)
    status, answer = await ask(served, "PATCH", f"/api/tasks/{JOB}", {"priority": 9})
    assert (status, answer["priority"], answer["status"]) == (200, 9, "pending")
    [command] = commands(served)
    assert isinstance(command, ChangeJob)
    assert (command.action, command.priority) == (JobAction.REPRIORITISE, 9)
    for body in ({}, {"priority": 0}, {"priority": "9"}, {"priority": None}, {"priority": 9, "x": 1}, [], "x", b"\xff"):
        assert (await ask(served, "PATCH", f"/api/tasks/{JOB}", body))[0] in (400, 422), body


async def test_nobody_changes_the_jobs_of_another(served: Served) -> None:
    holding(served, status=JobStatus.FAILED)
    for method, path, body in (
        ("DELETE", f"/api/tasks/{JOB}", None),
        ("POST", f"/api/tasks/{JOB}/retry", None),
        ("PATCH", f"/api/tasks/{JOB}", {"priority": 1}),
    ):
        assert (await ask(served, method, path, body, key="stranger"))[0] == 404, path
        assert (await ask(served, method, path, body, key="reader"))[0] == 403, path
    assert not served.publisher.log


async def test_a_job_that_is_not_stored_yet_can_be_cancelled(served: Served) -> None:
    served.log.edges_of, served.stored_commands.offsets = Edges(first=0, end=5), {0: 1}
    status, answer = await ask(served, "DELETE", f"/api/tasks/{JOB}")
    assert (status, answer["status"]) == (202, "cancel_requested")
    assert (await ask(served, "POST", f"/api/tasks/{JOB}/retry"))[0] == 409


async def test_queues_are_changed_by_administrators(served: Served) -> None:
    served.jobs.queue_views = [queue_view()]
    served.stored_commands.offsets = {0: 100}
    status, answer = await ask(served, "GET", "/api/tasks/queues", key="reader")
    assert (status, [queue["queue"] for queue in answer["queues"]]) == (200, ["default"])
    pause = {"reason": "broken", "until": "2026-01-01T00:00:00Z"}
    asked = (
        ("POST", "/api/tasks/queues/default/pause", pause),
        ("POST", "/api/tasks/queues/default/pause", None),
        ("POST", "/api/tasks/queues/default/resume", None),
        ("PUT", "/api/tasks/queues/mine", {"max_running": 3, "step_s": 5}),
        ("PUT", "/api/tasks/queues/mine", {}),
    )
    for method, path, body in asked:
        assert (await ask(served, method, path, body, key="worker"))[0] == 403, path
        status, answer = await ask(served, method, path, body)
        assert (status, answer["applied"]) == (202, True), answer
    found = [command for command in commands(served) if isinstance(command, ChangeQueue)]
    assert [command.action for command in found] == [
        QueueAction.PAUSE, QueueAction.PAUSE, QueueAction.RESUME, QueueAction.CONFIGURE, QueueAction.CONFIGURE
    ]  # fmt: skip
    assert (found[0].reason, found[0].until_ms, found[1].reason, found[1].until_ms) == (
        "broken", 1_767_225_600_000, None, None
    )  # fmt: skip
    assert (found[3].max_running, found[3].max_running_per_tenant, found[3].step_s) == (3, None, 5.0)
    assert (found[4].max_running, found[4].step_s) == (None, 60.0)
    assert served.publisher.log[-1][1].key == b"queue/mine"


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "queues/none/pause", {}, 404),
        ("POST", "queues/none/resume", None, 404),
        ("PUT", "queues/Not%20one", {}, 422),
        ("PUT", "queues/a%00", {}, 422),
        ("PUT", "queues/a", {"max_running": 0}, 422),
        ("PUT", "queues/a", {"max_running": True}, 422),
        ("PUT", "queues/a", {"step_s": 0}, 422),
        ("PUT", "queues/a", {"step_s": None}, 422),
        ("PUT", "queues/a", b'{"step_s": 1e999}', 422),
        ("PUT", "queues/a", {"nonsense": 1}, 422),
        ("PUT", "queues/a", b"null", 422),
        ("POST", "queues/default/pause", {"until": "2020-01-01T00:00:00Z"}, 422),
        ("POST", "queues/default/pause", {"until": "soon"}, 422),
        ("POST", "queues/default/pause", {"until": 1}, 422),
        ("POST", "queues/default/pause", {"reason": ""}, 422),
        ("POST", "queues/default/pause", {"reason": "a\0"}, 422),
    ],
)
async def test_a_change_of_a_queue_that_is_none(
    served: Served, method: str, path: str, body: Any, expected: int
) -> None:
    assert (await ask(served, method, f"/api/tasks/{path}", body))[0] == expected
    assert not served.publisher.log


async def test_a_queue_is_usable_once_it_is_there(served: Served) -> None:
    served.stored_commands.offsets = {0: 100}
    job = {"type": "echo", "queue": "mine"}
    assert (await ask(served, "POST", "/api/tasks", job))[0] == 400
    assert (await ask(served, "PUT", "/api/tasks/queues/mine", {}))[0] == 202
    served.jobs.queue_views = [queue_view("mine")]
    assert (await ask(served, "POST", "/api/tasks", job))[0] == 202


async def test_a_schedule_is_stored_as_it_was_sent(served: Served) -> None:
    served.stored_commands.offsets = {0: 100}
    text = msgspec.json.encode(DEFINITION | {"parameters": {"value": 1.0}}).decode().replace(":", ": ")
    status, answer = await ask(served, "POST", "/api/tasks/schedules", text, key="writer")
    assert (status, answer["applied"], len(answer["next_times"])) == (202, True, 5), answer
    assert answer["next_times"][0] == "2025-12-08T01:30:00Z"
    [command] = commands(served)
    assert isinstance(command, ChangeSchedule)
    assert (command.action, command.definition, command.schedule_id) == (
        ScheduleAction.PUT, text, answer["schedule_id"]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected", "pointer"),
    [
        ({"name": None}, 422, "/name"),
        ({"cron": "x"}, 422, "/cron"),
        ({"cron": "* * * * * *"}, 422, "/cron"),
        ({"cron": 5}, 422, "/cron"),
        ({"cron": "0 0 30 2 *"}, 422, "/cron"),
        ({"timezone": "Mars/Olympus"}, 422, "/timezone"),
        ({"timezone": "../etc/passwd"}, 422, "/timezone"),
        ({"priority": 11}, 422, "/priority"),
        ({"missed": "always"}, 422, "/missed"),
        ({"nonsense": 1}, 422, ""),
        ({"parameters": []}, 422, "/parameters"),
        ({"type": 7}, 422, "/type"),
        ({"type": "unknown"}, 400, "/type"),
        ({"queue": "unknown"}, 400, "/queue"),
        ({"parameters": {"delay_s": "x"}}, 400, "/parameters/delay_s"),
    ],
)
async def test_a_schedule_is_checked_like_a_submission(
    served: Served, changes: dict[str, Any], expected: int, pointer: str
) -> None:
    status, answer = await ask(served, "POST", "/api/tasks/schedules", DEFINITION | changes)
    assert (status, answer["code"]) == (expected, "BAD_PARAMETERS" if expected == 400 else "VALIDATION_ERROR")
    assert pointer in [fault["pointer"] for fault in answer["errors"]]
    assert not served.publisher.log


async def test_schedules_are_shown_and_changed(served: Served) -> None:
    served.jobs.schedule_views = {builders.TENANT: [schedule_view("a"), schedule_view("b", schedule_id=JOB)]}
    served.stored_commands.offsets = {0: 100}
    _, page = await ask(served, "GET", "/api/tasks/schedules?limit=1")
    assert [each["name"] for each in page["schedules"]] == ["a"]
    _, page = await ask(served, "GET", f"/api/tasks/schedules?limit=1&cursor={page['next_cursor']}")
    assert ([each["name"] for each in page["schedules"]], page["next_cursor"]) == (["b"], None)
    path = f"/api/tasks/schedules/{SCHEDULE}"
    assert (await ask(served, "GET", path))[1]["next_times"] == ["2025-12-05T10:00:00.123000Z"]
    for method, end, body in (
        ("PUT", "", DEFINITION), ("POST", "/pause", None), ("POST", "/resume", None), ("POST", "/run", None),
        ("DELETE", "", None),
    ):  # fmt: skip
        assert (await ask(served, method, path + end, body, key="stranger"))[0] == 404
        assert (await ask(served, method, path + end, body, key="reader"))[0] == 403
        assert (await ask(served, method, path + end, body, key="writer"))[0] == 202
    found = [command for command in commands(served) if isinstance(command, ChangeSchedule)]
    assert [command.action for command in found] == [
        ScheduleAction.PUT, ScheduleAction.PAUSE, ScheduleAction.RESUME, ScheduleAction.RUN, ScheduleAction.DELETE
    ]  # fmt: skip
    assert {command.schedule_id for command in found} == {SCHEDULE}
    for cursor in ("x", "W10", "WzFd", "WyIiXQ"):
        assert (await ask(served, "GET", f"/api/tasks/schedules?cursor={cursor}"))[0] == 422
    assert (await ask(served, "GET", "/api/tasks/schedules/none"))[0] == 404


async def test_a_schedule_of_a_type_needs_the_right_of_the_type(served: Served) -> None:
    of_type = DEFINITION | {"type": "maintenance/optimize-database"}
    served.stored_commands.offsets = {0: 100}
    assert (await ask(served, "POST", "/api/tasks/schedules", of_type, key="writer"))[0] == 403
    assert (await ask(served, "POST", "/api/tasks/schedules", of_type))[0] == 202
    served.jobs.schedule_views = {builders.TENANT: [schedule_view(task_type="maintenance/optimize-database")]}
    assert (await ask(served, "POST", f"/api/tasks/schedules/{SCHEDULE}/run", key="writer"))[0] == 403


async def test_an_operation_is_started_or_counted(served: Served) -> None:
    holding(served)
    status, answer = await ask(served, "POST", "/api/tasks/operations", OPERATION | {"dry_run": True}, key="writer")
    assert (status, answer) == (200, {"matches": 1, "is_estimate": False})
    assert not served.publisher.log
    asked = {
        "filter": {"created_to": "2026-01-01T00:00:00Z", "tag": "x", "status": "pending", "metadata": {"a": 1}},
        "action": "reprioritise",
        "priority": 1,
    }
    status, answer = await ask(served, "POST", "/api/tasks/operations", asked, key="writer")
    assert (status, answer["applied"]) == (202, True)
    [command] = commands(served)
    assert isinstance(command, StartOperation)
    assert (command.operation_id, command.action, command.priority) == (
        answer["operation_id"], JobAction.REPRIORITISE, 1
    )  # fmt: skip
    assert msgspec.json.decode(command.filter) == {
        "created_to": "2026-01-01T00:00:00Z", "tag": "x", "status": "pending", "metadata": {"a": 1}
    }  # fmt: skip
    assert msgspec.json.decode(command.filter, type=JobFilter).tag == "x"


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"filter": {}}, "/filter/created_from"),
        ({"filter": None}, "/filter"),
        ({"filter": {"created_from": "x"}}, "/filter/created_from"),
        ({"filter": {"created_to": 1}}, "/filter/created_to"),
        ({"filter": {"created_to": "2026-01-01T00:00:00"}}, "/filter/created_to"),
        ({"filter": {"created_to": "2026-01-01T00:00:00Z", "status": "done"}}, "/filter/status"),
        ({"filter": {"created_to": "2026-01-01T00:00:00Z", "metadata": "a=1"}}, "/filter/metadata"),
        ({"action": "delete"}, "/action"),
        ({"action": "reprioritise"}, "/priority"),
        ({"priority": 3}, "/priority"),
        ({"action": "reprioritise", "priority": 99}, "/priority"),
        ({"dry_run": "yes"}, "/dry_run"),
    ],
)
async def test_an_operation_that_is_none(served: Served, changes: dict[str, Any], pointer: str) -> None:
    status, answer = await ask(served, "POST", "/api/tasks/operations", OPERATION | changes)
    assert (status, pointer in [fault["pointer"] for fault in answer["errors"]]) == (422, True), answer
    assert not served.publisher.log


async def test_a_retry_of_many_needs_the_rights_of_their_types(served: Served) -> None:
    served.stored_commands.offsets = {0: 100}
    retry = OPERATION | {"action": "retry"}
    assert (await ask(served, "POST", "/api/tasks/operations", retry, key="writer"))[0] == 403
    of_echo = retry | {"filter": OPERATION["filter"] | {"type": "echo"}}
    assert (await ask(served, "POST", "/api/tasks/operations", of_echo, key="writer"))[0] == 202
    assert (await ask(served, "POST", "/api/tasks/operations", retry))[0] == 202


async def test_operations_are_shown_to_their_tenant(served: Served) -> None:
    served.jobs.operation_views = {builders.TENANT: [operation_view(), operation_view(OTHER_JOB)]}
    _, page = await ask(served, "GET", "/api/tasks/operations?limit=1")
    assert [each["operation_id"] for each in page["operations"]] == [JOB]
    _, page = await ask(served, "GET", f"/api/tasks/operations?limit=1&cursor={page['next_cursor']}")
    assert ([each["operation_id"] for each in page["operations"]], page["next_cursor"]) == ([OTHER_JOB], None)
    assert (await ask(served, "GET", f"/api/tasks/operations/{JOB}"))[1]["done_count"] == 1
    assert (await ask(served, "GET", f"/api/tasks/operations/{JOB}", key="stranger"))[0] == 404
    assert (await ask(served, "GET", "/api/tasks/operations", key="stranger"))[1]["operations"] == []


async def test_changes_need_postgres(served: Served) -> None:
    served.jobs.failure = StoreUnavailable("away")
    assert (await ask(served, "DELETE", f"/api/tasks/{JOB}"))[0] == 503
    assert (await ask(served, "POST", f"/api/tasks/{JOB}/retry"))[0] == 503
    assert not served.publisher.log
