"""Jobs that are submitted: what is taken, how it is answered, and what stands in the log then."""

import json
from typing import Any

import pytest

from gateway.errors import LogUnavailable, StoreUnavailable
from gateway.jobs.settings import JobSettings
from schemas.access.credentials import Right
from schemas.ids import moment_of_uuid7
from schemas.jobs.records import SubmitJob, content_sha256, idempotent_job_id
from schemas.jobs.rules import BATCH_JOBS_MAX, METADATA_BYTES_MAX, PARAMETERS_BYTES_MAX, TIME_MS_MAX
from schemas.jobs.states import JobStatus
from schemas.jobs.types import TaskTypesSettings
from tests.support import builders
from tests.support.job_views import GREETING, JOB, OTHER_JOB, ask, commands, job_view
from tests.unit.gateway.conftest import NOW, Served

ECHO: dict[str, Any] = {"type": "echo", "parameters": {"value": 1}}
NOW_MS = 1_764_928_800_123
DEEP = "[" * 80 + "]" * 80


@pytest.fixture
def job_settings() -> JobSettings:
    """Return settings with a type of the user's own, and room for a few jobs."""
    return JobSettings(types=TaskTypesSettings(declared=GREETING), unfinished_max=50)


def submitted(served: Served) -> list[SubmitJob]:
    return [command for command in commands(served) if isinstance(command, SubmitJob)]


def pointers(answer: Any) -> list[str]:
    return [fault["pointer"] for fault in answer["errors"]]


async def test_a_job_is_in_the_log_as_it_was_sent(served: Served) -> None:
    text = """{"type": "echo", "parameters": { "value" : 1.00 }, "metadata": {"a":  1}, "tags": ["x"], "user_id": "u-1",
               "queue": "maintenance", "priority": 9, "dedupe_key": "k", "max_attempts": 2, "timeout_s": 5,
               "run_at": "2026-01-01T00:00:00+01:00", "expires_at": "2026-01-02T00:00:00Z"}"""
    status, answer = await ask(served, "POST", "/api/tasks", text)
    assert status == 202, answer
    [command], [(place, record)] = submitted(served), served.publisher.log
    assert (command.parameters, command.metadata) == ('{ "value" : 1.00 }', '{"a":  1}')
    assert (command.type, command.queue, command.priority, command.tags) == ("echo", "maintenance", 9, ("x",))
    assert (command.max_attempts, command.timeout_s, command.dedupe_key, command.user_id) == (2, 5.0, "k", "u-1")
    assert (command.run_at_ms, command.expires_at_ms) == (1_767_222_000_000, 1_767_312_000_000)
    assert (command.tenant, command.schedule_id) == (builders.TENANT, None)
    assert record.key == command.job_id.encode()
    assert moment_of_uuid7(command.job_id) == NOW
    task_id = command.job_id
    assert answer == {
        "task_id": task_id,
        "status": "pending",
        "type": "echo",
        "queue": "maintenance",
        "created_at": "2025-12-05T10:00:00.123000Z",
        "message": "the job is in the log",
        "wal_id": place.wal_id,
        "links": {
            "status": f"/api/tasks/status/{task_id}",
            "cancel": f"/api/tasks/{task_id}",
            "events": f"/ws/tasks/{task_id}/",
        },
    }


async def test_what_is_left_out_comes_from_the_type(served: Served) -> None:
    status, _ = await ask(served, "POST", "/api/tasks/", {"task_type": "maintenance/optimize-database", "tags": None})
    assert status == 202
    [command] = submitted(served)
    assert (command.queue, command.priority, command.max_attempts) == ("maintenance", 5, 3)
    assert (command.parameters, command.metadata, command.run_at_ms, command.tags) == ("{}", None, None, ())


async def test_the_path_may_name_the_type(served: Served) -> None:
    path = "/api/tasks/maintenance/optimize-database"
    assert (await ask(served, "POST", path, {"parameters": {"level": "light"}}))[0] == 202
    assert (await ask(served, "POST", path, {"type": "maintenance/optimize-database"}))[0] == 202
    assert [command.type for command in submitted(served)] == ["maintenance/optimize-database"] * 2
    status, answer = await ask(served, "POST", path, {"type": "echo"})
    assert (status, pointers(answer)) == (422, ["/type"])
    status, answer = await ask(served, "POST", path, {"parameters": {"level": "none"}})
    assert (status, answer["code"], pointers(answer)) == (400, "BAD_PARAMETERS", ["/parameters/level"])
    status, answer = await ask(served, "POST", "/api/tasks/no/such", {})
    assert (status, answer["code"], pointers(answer)) == (400, "BAD_PARAMETERS", ["/type"])


async def test_a_delay_counts_from_now_and_the_content_is_what_was_asked(served: Served) -> None:
    for body in (ECHO | {"delay_s": 1.5}, ECHO | {"delay_s": 0}, ECHO | {"priority": 5, "tags": []}, ECHO):
        assert (await ask(served, "POST", "/api/tasks", body))[0] == 202
    delayed, at_once, spelled_out, plain = submitted(served)
    assert (delayed.run_at_ms, at_once.run_at_ms) == (NOW_MS + 1500, None)
    asked = {"type": "echo", "parameters": {"value": 1}, "priority": 5}
    assert delayed.content_sha256 == content_sha256(asked | {"delay_s": 1.5})
    assert spelled_out.content_sha256 == plain.content_sha256 == content_sha256(asked)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"type": None}, "/type"),
        ({}, "/type"),
        ({"type": 7}, "/type"),
        ({"type": ["echo"]}, "/type"),
        ({"type": "Echo!"}, "/type"),
        ({"task_type": None}, "/type"),
        (ECHO | {"task_type": "echo"}, "/task_type"),
        (ECHO | {"nonsense": 1}, "/nonsense"),
        (ECHO | {"a/b~\n": 1}, "/a~1b~0\n"),
        (ECHO | {"queue": 1}, "/queue"),
        (ECHO | {"queue": "Not A Queue"}, "/queue"),
        (ECHO | {"priority": "high"}, "/priority"),
        (ECHO | {"priority": True}, "/priority"),
        (ECHO | {"priority": 0}, "/priority"),
        (ECHO | {"priority": 11}, "/priority"),
        (ECHO | {"priority": 5.5}, "/priority"),
        (ECHO | {"run_at": "tomorrow"}, "/run_at"),
        (ECHO | {"run_at": 1}, "/run_at"),
        (ECHO | {"run_at": "2026-01-01T00:00:00"}, "/run_at"),
        (ECHO | {"run_at": "1969-12-31T00:00:00Z"}, "/run_at"),
        (ECHO | {"run_at": "9999-12-31T23:59:59.5Z"}, "/run_at"),
        (ECHO | {"run_at": "9999-12-31T23:59:59-12:00"}, "/run_at"),
        (ECHO | {"run_at": "10000-01-01T00:00:00Z"}, "/run_at"),
        (ECHO | {"run_at": "2026-01-01T00:00:00Z", "delay_s": 1}, "/delay_s"),
        (ECHO | {"delay_s": "1"}, "/delay_s"),
        (ECHO | {"delay_s": -1}, "/delay_s"),
        (ECHO | {"delay_s": True}, "/delay_s"),
        (ECHO | {"delay_s": 1e300}, "/delay_s"),
        (ECHO | {"delay_s": 2**64 - 1}, "/delay_s"),
        (ECHO | {"expires_at": "x"}, "/expires_at"),
        (ECHO | {"run_at": "2026-01-02T00:00:00Z", "expires_at": "2026-01-01T00:00:00Z"}, "/expires_at"),
        (ECHO | {"delay_s": 60, "expires_at": "2025-12-05T10:00:10Z"}, "/expires_at"),
        (ECHO | {"dedupe_key": ""}, "/dedupe_key"),
        (ECHO | {"dedupe_key": 1}, "/dedupe_key"),
        (ECHO | {"dedupe_key": "a\nb"}, "/dedupe_key"),
        (ECHO | {"dedupe_key": "k" * 256}, "/dedupe_key"),
        (ECHO | {"max_attempts": 0}, "/max_attempts"),
        (ECHO | {"max_attempts": 2**63}, "/max_attempts"),
        (ECHO | {"max_attempts": "3"}, "/max_attempts"),
        (ECHO | {"timeout_s": 0}, "/timeout_s"),
        (ECHO | {"timeout_s": "1"}, "/timeout_s"),
        (ECHO | {"timeout_s": 80_000}, "/timeout_s"),
        (ECHO | {"timeout_s": 1e308}, "/timeout_s"),
        (ECHO | {"tags": "x"}, "/tags"),
        (ECHO | {"tags": {"a": 1}}, "/tags"),
        (ECHO | {"tags": [1]}, "/tags"),
        (ECHO | {"tags": [None]}, "/tags"),
        (ECHO | {"tags": [""]}, "/tags"),
        (ECHO | {"tags": ["x"] * 21}, "/tags"),
        (ECHO | {"metadata": [1]}, "/metadata"),
        (ECHO | {"metadata": "x"}, "/metadata"),
        (ECHO | {"metadata": {"a": "x" * METADATA_BYTES_MAX}}, "/metadata"),
        (ECHO | {"user_id": 7}, "/user_id"),
        (ECHO | {"user_id": "u\0"}, "/user_id"),
        ({"type": "echo", "parameters": {"value": "x" * PARAMETERS_BYTES_MAX}}, "/parameters"),
        ({"type": "echo", "parameters": {"value": "\0"}}, "/parameters/value"),
        ({"type": "echo", "parameters": {"value": "\ud800"}}, "/parameters/value"),
    ],
)
async def test_a_fault_of_form_is_named(served: Served, body: dict[str, Any], pointer: str) -> None:
    status, answer = await ask(served, "POST", "/api/tasks", body)
    assert (status, answer["code"]) == (422, "VALIDATION_ERROR"), answer
    assert pointer in pointers(answer)
    assert not served.publisher.log


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"type": "unknown"}, "/type"),
        ({"type": "echo", "parameters": None}, "/parameters"),
        ({"type": "echo", "parameters": []}, "/parameters"),
        ({"type": "echo", "parameters": "x"}, "/parameters"),
        ({"type": "echo", "parameters": {"delay_s": "x"}}, "/parameters/delay_s"),
        ({"type": "echo", "parameters": {"delay_s": 10**9}}, "/parameters/delay_s"),
        ({"type": "echo", "parameters": {"fail_attempts": 1.5}}, "/parameters/fail_attempts"),
        ({"type": "echo", "parameters": {"none": 1}}, "/parameters"),
        ({"type": "http_probe", "parameters": {}}, "/parameters"),
        ({"type": "http_probe", "parameters": {"target": "../x"}}, "/parameters/target"),
        ({"type": "shop/greet", "parameters": {"name": 1, "times": "x"}}, "/parameters/times"),
        ({"type": "shop/greet", "parameters": {"name": "nobody"}}, "/parameters"),
        (ECHO | {"queue": "no_such_queue"}, "/queue"),
    ],
)
async def test_what_the_type_does_not_take_is_bad_parameters(
    served: Served, body: dict[str, Any], pointer: str
) -> None:
    status, answer = await ask(served, "POST", "/api/tasks", body)
    assert (status, answer["code"]) == (400, "BAD_PARAMETERS"), answer
    assert pointer in pointers(answer)
    assert not served.publisher.log


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"x"',
        b"{",
        b"\xff",
        b'{"type": "echo", "type": "echo"}',
        b'{"type": "echo", "parameters": {"value": 1, "value": 2}}',
        b'{"type": "echo", "delay_s": NaN}',
        b'{"type": "echo", "delay_s": 1e400}',
        b'{"type": "echo", "delay_s": Infinity}',
        b'{"type": "echo", "priority": 99999999999999999999999999}',
        b'{"type": "echo", "parameters": {"value": 1e999}}',
        b'{"type": "\\ud800"}',
        b'{"type": "echo", "tags": ["\\u0000"]}',
        f'{{"type": "echo", "parameters": {{"value": {DEEP}}}}}'.encode(),
        b'{"type": "echo", "parameters": {"value": ' + b"[" * 5000,
    ],
)
async def test_what_is_no_json_of_ours_is_refused(served: Served, text: bytes) -> None:
    for path in ("/api/tasks", "/api/tasks/maintenance/optimize-database", "/api/tasks/batch", "/api/tasks/schedules"):
        status, answer = await ask(served, "POST", path, text)
        assert status in (400, 422), (path, answer)
    assert not served.publisher.log


async def test_every_fault_is_listed(served: Served) -> None:
    body = {"type": "unknown", "priority": 0, "tags": "x", "delay_s": -1, "metadata": 1, "queue": "none"}
    status, answer = await ask(served, "POST", "/api/tasks", body)
    assert status == 422
    assert {"/type", "/priority", "/tags", "/delay_s", "/metadata", "/queue"} <= set(pointers(answer))
    status, answer = await ask(served, "POST", "/api/tasks", {"type": "unknown", "queue": "none"})
    assert (status, set(pointers(answer))) == (400, {"/type", "/queue"})
    assert "echo, http_probe, maintenance/optimize-database, shop/greet" in answer["errors"][0]["detail"]


async def test_the_latest_time_there_is(served: Served) -> None:
    assert (await ask(served, "POST", "/api/tasks", ECHO | {"run_at": "9999-12-31T23:59:59Z"}))[0] == 202
    assert submitted(served)[0].run_at_ms == TIME_MS_MAX


async def test_types_need_their_right(served: Served) -> None:
    body = {"type": "maintenance/optimize-database"}
    status, answer = await ask(served, "POST", "/api/tasks", body, key="writer")
    assert (status, answer["code"]) == (403, "FORBIDDEN")
    assert (await ask(served, "POST", "/api/tasks/maintenance/optimize-database", {}, key="writer"))[0] == 403
    assert (await ask(served, "POST", "/api/tasks", ECHO, key="reader"))[0] == 403
    assert (await ask(served, "POST", "/api/tasks", ECHO, key="writer"))[0] == 202
    status, answer = await ask(served, "POST", "/api/tasks/batch", [body, ECHO], key="writer")
    assert (status, [result["status"] for result in answer["results"]]) == (207, ["rejected", "accepted"])
    assert answer["results"][0]["code"] == "FORBIDDEN"
    assert Right.ADMIN.value in answer["results"][0]["detail"]


async def test_the_same_key_is_the_same_job(served: Served) -> None:
    headers = {"Idempotency-Key": "order-1"}
    job_id = idempotent_job_id(builders.TENANT, "order-1")
    status, first = await ask(served, "POST", "/api/tasks", ECHO, **headers)
    assert (status, first["task_id"]) == (202, job_id)
    status, again = await ask(served, "POST", "/api/tasks", ECHO, **headers)
    assert (status, again["task_id"]) == (202, job_id), "not stored yet: intake will find the duplicate"

    other = ECHO | {"priority": 1}
    status, answer = await ask(served, "POST", "/api/tasks", other, **headers)
    assert (status, answer["code"]) == (409, "IDEMPOTENCY_CONFLICT"), "this gateway remembers it"

    [command, _] = submitted(served)
    served.jobs.stored = {builders.TENANT: [job_view(job_id, status=JobStatus.RUNNING)]}
    served.jobs.digests[job_id] = command.content_sha256
    status, answer = await ask(served, "POST", "/api/tasks", ECHO, **headers)
    assert (status, answer["task_id"], answer["duplicate"], answer["status"]) == (200, job_id, True, "running")
    assert "wal_id" not in answer
    assert len(served.publisher.log) == 2
    served.jobs.digests[job_id] = b"other"
    assert (await ask(served, "POST", "/api/tasks", ECHO, **headers))[0] == 409
    assert (await ask(served, "POST", "/api/tasks", ECHO, key="stranger", **headers))[0] == 202, "another tenant's key"


@pytest.mark.parametrize("key", ["", "k" * 256, "\udcff", "a\tb"])
async def test_a_key_that_is_none_is_refused(served: Served, key: str) -> None:
    status, answer = await ask(served, "POST", "/api/tasks", ECHO, **{"Idempotency-Key": key})
    assert (status, answer["code"]) == (422, "VALIDATION_ERROR")


async def test_an_unfinished_job_holds_its_dedupe_key(served: Served) -> None:
    holder = job_view(JOB, dedupe_key="k")
    served.jobs.stored = {builders.TENANT: [holder]}
    body = ECHO | {"dedupe_key": "k"}
    status, answer = await ask(served, "POST", "/api/tasks", body)
    assert (status, answer["task_id"], answer["duplicate"]) == (200, JOB, True)
    assert (await ask(served, "POST", "/api/tasks", body, key="stranger"))[0] == 202
    status, answer = await ask(served, "POST", "/api/tasks/batch", [ECHO, body])
    assert (status, [result["status"] for result in answer["results"]]) == (202, ["accepted", "duplicate"])
    assert answer["results"][1]["task_id"] == JOB
    served.jobs.stored = {builders.TENANT: [job_view(JOB, dedupe_key="k", status=JobStatus.COMPLETED)]}
    assert (await ask(served, "POST", "/api/tasks", body))[0] == 202


async def test_jobs_are_accepted_while_postgres_is_away(served: Served) -> None:
    served.jobs.failure = StoreUnavailable("away")
    body = ECHO | {"dedupe_key": "k"}
    assert (await ask(served, "POST", "/api/tasks", body, **{"Idempotency-Key": "a"}))[0] == 202
    assert (await ask(served, "POST", "/api/tasks", {"type": "maintenance/optimize-database"}))[0] == 202


async def test_waiting_tells_the_duplicate_that_intake_found(served: Served) -> None:
    served.stored_commands.offsets = {0: 10}
    job_id = idempotent_job_id(builders.TENANT, "a")
    stored = job_view(job_id, status=JobStatus.CANCELLED, duplicate_of=OTHER_JOB)

    def applied() -> None:
        if served.publisher.log:
            served.jobs.stored = {builders.TENANT: [stored]}

    served.jobs.applied = applied
    status, answer = await ask(served, "POST", "/api/tasks?wait=jobs.intake", ECHO, **{"Idempotency-Key": "a"})
    assert (status, answer["waited"], answer["duplicate"], answer["status"]) == (202, True, True, "cancelled")
    status, answer = await ask(served, "POST", "/api/tasks?wait=nobody", ECHO)
    assert status == 422


@pytest.mark.parametrize("form", ["list", "lines"])
async def test_a_batch_has_a_result_for_each(served: Served, form: str) -> None:
    jobs = [ECHO, {"type": "unknown"}, ECHO | {"priority": 0}, {"type": "shop/greet", "parameters": {"name": "Ada"}}]
    texts = [json.dumps(job) for job in jobs]
    body = "\n".join(texts) if form == "lines" else f"[{','.join(texts)}]"
    kind = "application/x-ndjson" if form == "lines" else "application/json"
    status, answer = await ask(served, "POST", "/api/tasks/batch", body, **{"Content-Type": kind})
    assert status == 207
    results = answer["results"]
    assert [result["status"] for result in results] == ["accepted", "rejected", "rejected", "accepted"]
    assert [result.get("code") for result in results] == [None, "BAD_PARAMETERS", "VALIDATION_ERROR", None]
    assert [result["task_id"] for result in results if "task_id" in result] == [
        command.job_id for command in submitted(served)
    ]
    assert results[1]["errors"][0]["pointer"] == "/type"


async def test_a_large_batch_is_parsed_elsewhere_with_the_same_types(served: Served) -> None:
    job = {"type": "shop/greet", "parameters": {"name": "x" * 2000}}
    status, answer = await ask(served, "POST", "/api/tasks/batch", [job] * 40)
    assert (status, len(answer["results"])) == (202, 40)


async def test_a_batch_has_bounds(served: Served) -> None:
    for batch in ([], [ECHO] * (BATCH_JOBS_MAX + 1)):
        assert (await ask(served, "POST", "/api/tasks/batch", batch))[0] == 422
    for batch in (["x"], [None], [[]], [7]):
        status, answer = await ask(served, "POST", "/api/tasks/batch", batch)
        assert (status, answer["results"][0]["status"]) == (207, "rejected")
    status, answer = await ask(served, "POST", "/api/tasks/batch", [ECHO], **{"Idempotency-Key": "a"})
    assert status == 422
    assert not served.publisher.log


async def test_a_log_that_is_away_is_no_accepted_job(served: Served) -> None:
    served.publisher.failure = LogUnavailable("away")
    assert (await ask(served, "POST", "/api/tasks", ECHO))[0] == 503
    assert (await ask(served, "POST", "/api/tasks/batch", [ECHO, ECHO]))[0] == 503
    status, answer = await ask(served, "POST", "/api/tasks/batch", [ECHO, {"type": None}])
    assert (status, [result["status"] for result in answer["results"]]) == (207, ["retry", "rejected"])


async def test_a_tenant_has_so_many_unfinished_jobs(served: Served) -> None:
    served.jobs.unfinished_count = 48
    assert (await ask(served, "POST", "/api/tasks", ECHO))[0] == 202
    assert (await ask(served, "POST", "/api/tasks/batch", [ECHO, ECHO]))[0] == 429
    assert (await ask(served, "POST", "/api/tasks", ECHO))[0] == 202, "the refused batch took no room"
    status, answer = await ask(served, "POST", "/api/tasks", ECHO)
    assert (status, answer["code"]) == (429, "BACKPRESSURE")
    async with served.client.post("/api/tasks", json=ECHO, headers=served.headers()) as refused:
        assert refused.headers["Retry-After"] == "1"
    served.jobs.failure = StoreUnavailable("away")
    assert (await ask(served, "POST", "/api/tasks", ECHO))[0] == 429, "the last count goes on"


async def test_jobs_are_slowed_down_by_the_lag_of_their_own_group(served: Served) -> None:
    served.job_throttle.admission.step(10_000_000, 0.0, 0.0)
    for _ in range(30):
        status, answer = await ask(served, "POST", "/api/tasks", ECHO)
        if status != 202:
            break
    assert (status, answer["code"]) == (429, "BACKPRESSURE")
    event = {"type": "click"}
    assert (await ask(served, "POST", "/api/v1/events", event))[0] == 202
