"""Jobs from HTTP to their end on the real stack, and what their users see meanwhile."""

import json
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import psycopg
import pytest

from schemas.jobs.codec import CHANGE_CODEC
from schemas.jobs.topics import INTAKE, JOB_EVENTS
from tests.support.api import ApiClient
from tests.support.lag import wait_until_handled
from tests.support.log import read_topic
from tests.support.stack import RunningStack, wait_until

ENDED_S = 60


class Jobs(ApiClient):
    """Asks the stack's gateway for jobs."""

    def submit(self, **body: Any) -> dict[str, Any]:
        """Return the answer to a submission, which must be accepted."""
        return self.accepted("/api/tasks?wait=jobs.intake", {"type": "echo"} | body)

    def shown(self, task_id: str) -> dict[str, Any]:
        """Return a job, which must be there."""
        status, job = self.ask("GET", f"/api/tasks/status/{task_id}")
        assert status == 200, job
        found: dict[str, Any] = job
        return found

    def ended(self, task_id: str, *statuses: str) -> dict[str, Any]:
        """Return a job once it has ended, as one of *statuses*."""
        ends = ("completed", "failed", "cancelled")
        wait_until(lambda: self.shown(task_id)["status"] in ends, timeout_s=ENDED_S, what=f"{task_id} to end")
        job = self.shown(task_id)
        assert job["status"] in statuses, job
        return job


@pytest.fixture
def jobs(stack: RunningStack) -> Jobs:
    return Jobs(stack)


@pytest.fixture
def paused(jobs: Jobs) -> Iterator[str]:
    """Yield the name of a queue that is paused."""
    path = "/api/tasks/queues/edm_analysis"
    assert jobs.ask("POST", f"{path}/pause", {"reason": "a test"})[0] == 202
    yield "edm_analysis"
    assert jobs.ask("POST", f"{path}/resume")[0] == 202


def test_a_job_runs_and_shows_its_result_and_attempts(jobs: Jobs) -> None:
    accepted = jobs.submit(parameters={"value": {"a": 1}}, tags=["t"], metadata={"order": 7}, user_id="u", priority=8)
    job = jobs.ended(accepted["task_id"], "completed")
    assert job["result"] == {"value": {"a": 1}}
    assert (job["tags"], job["metadata"], job["user_id"], job["priority"]) == (["t"], {"order": 7}, "u", 8)
    assert [each["outcome"] for each in job["attempt_history"]] == ["completed"]
    assert jobs.settled(accepted["wal_id"], "jobs.intake")["outcome"] == "stored"


def test_a_failure_is_retried_and_its_history_kept(jobs: Jobs) -> None:
    task_id = jobs.submit(parameters={"fail_attempts": 1})["task_id"]
    job = jobs.ended(task_id, "completed")
    newest, first = job["attempt_history"]
    assert (first["outcome"], first["error_type"], newest["outcome"]) == ("failed", "EchoFailed", "completed")
    assert "EchoFailed" in first["traceback"]


def test_a_running_job_is_cancelled_and_runs_again_when_asked(jobs: Jobs) -> None:
    task_id = jobs.submit(parameters={"delay_s": 30})["task_id"]
    wait_until(lambda: jobs.shown(task_id)["status"] == "running", timeout_s=ENDED_S, what="the job to run")
    status, answer = jobs.ask("DELETE", f"/api/tasks/{task_id}")
    assert (status, answer["status"]) in ((202, "cancel_requested"), (200, "cancelled"))
    jobs.ended(task_id, "cancelled")
    assert jobs.ask("DELETE", f"/api/tasks/{task_id}")[0] == 409
    assert jobs.ask("POST", f"/api/tasks/{task_id}/retry")[0] == 202
    wait_until(lambda: jobs.shown(task_id)["status"] == "running", timeout_s=ENDED_S, what="the job to run again")
    jobs.ask("DELETE", f"/api/tasks/{task_id}")
    job = jobs.ended(task_id, "cancelled")
    assert job["generation"] == 2
    assert [each["outcome"] for each in job["attempt_history"]] == ["cancelled", "cancelled"]


def test_a_waiting_job_is_cancelled_at_once_and_has_its_position(jobs: Jobs, paused: str) -> None:
    first = jobs.submit(queue=paused, priority=9)["task_id"]
    second = jobs.submit(queue=paused)["task_id"]
    assert jobs.shown(second)["position"] >= 1
    assert jobs.ask("PATCH", f"/api/tasks/{second}", {"priority": 10})[0] in (200, 202)
    wait_until(lambda: jobs.shown(second)["priority"] == 10, timeout_s=10, what="its priority")
    for task_id in (first, second):
        status, answer = jobs.ask("DELETE", f"/api/tasks/{task_id}")
        assert (status, answer["status"]) == (200, "cancelled")


def test_one_idempotency_key_is_one_job(jobs: Jobs) -> None:
    key, body = token_hex(8), {"type": "echo", "parameters": {"value": 1}}
    status, first = jobs.ask("POST", "/api/tasks?wait=jobs.intake", body, Idempotency_Key=key)
    assert status == 202
    status, again = jobs.ask("POST", "/api/tasks", body, Idempotency_Key=key)
    assert (status, again["task_id"], again["duplicate"]) == (200, first["task_id"], True)
    status, other = jobs.ask("POST", "/api/tasks", body | {"priority": 1}, Idempotency_Key=key)
    assert (status, other["code"]) == (409, "IDEMPOTENCY_CONFLICT")


def test_one_dedupe_key_is_one_unfinished_job(jobs: Jobs, paused: str) -> None:
    key = token_hex(8)
    first = jobs.submit(queue=paused, dedupe_key=key)
    status, second = jobs.ask("POST", "/api/tasks", {"type": "echo", "queue": paused, "dedupe_key": key})
    assert (status, second["task_id"], second["duplicate"]) == (200, first["task_id"], True)
    jobs.ask("DELETE", f"/api/tasks/{first['task_id']}")


def test_an_id_that_nobody_submitted_is_unknown(jobs: Jobs) -> None:
    status, problem = jobs.ask("GET", "/api/tasks/status/00000000-0000-4000-8000-000000000000")
    assert (status, problem["code"]) == (404, "NOT_FOUND")


def test_a_batch_says_of_each_job_what_became_of_it(jobs: Jobs) -> None:
    status, answer = jobs.ask(
        "POST",
        "/api/tasks/batch",
        [{"type": "echo"}, {"type": "none"}, {"type": "echo", "parameters": {"delay_s": -1}}],
    )
    assert status == 207
    assert [each["status"] for each in answer["results"]] == ["accepted", "rejected", "rejected"]


def test_an_operation_cancels_what_matches(jobs: Jobs, paused: str) -> None:
    tag = token_hex(4)
    ids = [jobs.submit(queue=paused, tags=[tag])["task_id"] for _ in range(3)]
    wanted = {"filter": {"tag": tag, "created_from": "2026-01-01T00:00:00Z"}, "action": "cancel"}
    status, counted = jobs.ask("POST", "/api/tasks/operations", wanted | {"dry_run": True})
    assert (status, counted["matches"]) == (200, 3)
    status, started = jobs.ask("POST", "/api/tasks/operations", wanted)
    assert status == 202, started
    for task_id in ids:
        jobs.ended(task_id, "cancelled")


def test_a_schedule_fires_when_it_is_asked_to(jobs: Jobs, stack: RunningStack) -> None:
    name = token_hex(4)
    definition = {"name": name, "cron": "0 0 1 1 *", "type": "echo", "parameters": {"value": name}}
    status, created = jobs.ask("POST", "/api/tasks/schedules", definition)
    assert status in (201, 202), created
    path = f"/api/tasks/schedules/{created['schedule_id']}"
    wait_until(lambda: jobs.ask("GET", path)[0] == 200, timeout_s=10, what="the schedule")
    assert len(jobs.ask("GET", path)[1]["next_times"]) == 5
    assert jobs.ask("POST", f"{path}/run")[0] == 202

    def fired() -> list[str]:
        with psycopg.connect(stack.addresses.postgres) as session:
            rows = session.execute("SELECT job_id::text FROM jobs WHERE schedule_id = %s", [created["schedule_id"]])
            return [row[0] for row in rows]

    wait_until(lambda: len(fired()) == 1, timeout_s=30, what="the schedule to fire")
    assert jobs.ended(fired()[0], "completed")["result"] == {"value": name}
    assert jobs.ask("DELETE", path)[0] in (200, 202)


def test_every_change_is_in_the_log_once_a_version(jobs: Jobs, stack: RunningStack) -> None:
    task_id = jobs.submit(parameters={"fail_attempts": 1})["task_id"]
    job = jobs.ended(task_id, "completed")

    def changes() -> list[tuple[int, str]]:
        records = (CHANGE_CODEC.decode(record.value()) for record in read_topic(stack, JOB_EVENTS))
        return [(each.version, each.status) for each in records if each.job_id == task_id]

    wait_until(lambda: changes()[-1:] == [(job["version"], "completed")], timeout_s=30, what="the last change")
    statuses = ["pending", "running", "pending", "running", "completed"]
    assert changes() == list(enumerate(statuses, 1))


def test_a_replay_of_commands_changes_nothing(jobs: Jobs, stack: RunningStack) -> None:
    task_id = jobs.submit()["task_id"]
    jobs.ended(task_id, "completed")
    wait_until_handled(stack, INTAKE)
    with psycopg.connect(stack.addresses.postgres) as session:
        before = session.execute("SELECT count(*), sum(version), sum(runs) FROM jobs").fetchone()
    stack.command("replay", "jobs.intake", "--from-start", "--yes")
    with psycopg.connect(stack.addresses.postgres) as session:
        after = session.execute("SELECT count(*), sum(version), sum(runs) FROM jobs").fetchone()
    assert after == before


def test_the_database_is_optimized_by_who_may(jobs: Jobs) -> None:
    status, answer = jobs.ask("POST", "/api/tasks/maintenance/optimize-database", {"parameters": {"level": "standard"}})
    assert status == 202, answer
    job = jobs.ended(answer["task_id"], "completed")
    assert {each["table"] for each in job["result"]["reports"]} >= {"jobs", "runs", "events"}


def test_a_task_type_from_outside_is_listed_only_where_it_is_named(jobs: Jobs) -> None:
    status, types = jobs.ask("GET", "/api/tasks/types")
    assert status == 200
    assert {each["type"] for each in types["types"]} == {"echo", "http_probe", "maintenance/optimize-database"}


def test_bad_parameters_are_refused_with_a_pointer_each(jobs: Jobs) -> None:
    status, problem = jobs.ask("POST", "/api/tasks", {"type": "echo", "parameters": {"delay_s": "x", "zz": 1}})
    assert (status, problem["code"]) == (400, "BAD_PARAMETERS")
    assert {each["pointer"] for each in problem["errors"]} == {"/parameters/delay_s", "/parameters"}


def test_jobs_of_a_file_are_imported_once(jobs: Jobs, stack: RunningStack, tmp_path: Path) -> None:
    tag, file = token_hex(4), tmp_path / "jobs.jsonl"
    lines = [{"type": "echo", "parameters": {"value": n}, "tags": [tag]} for n in range(5)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for _ in range(2):
        stack.command("jobs", "import", str(file))
    wait_until_handled(stack, INTAKE)
    status, page = jobs.ask("GET", f"/api/tasks/list?tag={tag}&limit=100&offset=0")
    assert (status, page["total_count"]) == (200, 5)
