"""Reading jobs: those that are stored, those that are about to be, and nobody else's."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from gateway.errors import LogUnavailable, StoreUnavailable
from gateway.jobs.settings import JobSettings
from gateway.jobs.views import ExecutorView
from gateway.kafka.reader import Edges
from schemas.jobs.states import JobStatus
from schemas.jobs.types import TaskTypesSettings
from tests.support import builders
from tests.support.job_views import GREETING, JOB, OTHER_JOB, ask, job_view, queue_view
from tests.unit.gateway.conftest import NOW, Served

IDS = [f"0190e3a0-0000-7000-8000-0000000000{number:02}" for number in range(7)]


@pytest.fixture
def job_settings() -> JobSettings:
    """Return settings with a type of the user's own."""
    return JobSettings(types=TaskTypesSettings(declared=GREETING))


def executor(**changes: Any) -> ExecutorView:
    fields: dict[str, Any] = {
        "executor_id": OTHER_JOB, "host": "h", "pid": 7, "version": "1", "queues": ["default"], "types": ["echo"],
        "slots": 4, "busy": 1, "is_draining": False, "started_at": NOW, "silent_s": 1.0,
    }  # fmt: skip
    return ExecutorView(**(fields | changes))


async def test_a_job_shows_all_that_is_known(served: Served) -> None:
    done = job_view(status=JobStatus.COMPLETED, result=msgspec.Raw(b'{"n": 1.00}'), metadata=msgspec.Raw(b'{"a": 1}'))
    served.jobs.stored = {builders.TENANT: [done]}
    status, shown = await ask(served, "GET", f"/api/tasks/status/{JOB}", key="reader")
    assert (status, shown["task_id"], shown["status"], shown["visible"]) == (200, JOB, "completed", True)
    assert (shown["result"], shown["metadata"], shown["parameters"]) == ({"n": 1.0}, {"a": 1}, {"value": 1})
    assert shown["links"]["status"] == f"/api/tasks/status/{JOB}"
    assert (await ask(served, "GET", f"/api/tasks/status/{JOB.upper()}"))[0] == 200
    assert (await ask(served, "GET", f"/api/tasks/status/{JOB}", key="writer"))[0] == 403
    served.log.edges_of, served.stored_commands.offsets = Edges(first=0, end=5), {0: 5}
    assert (await ask(served, "GET", f"/api/tasks/status/{JOB}", key="stranger"))[0] == 404


async def test_404_only_once_intake_has_passed_what_was_in_the_log(served: Served) -> None:
    path = f"/api/tasks/status/{JOB}"
    assert (await ask(served, "GET", path))[0] == 404, "nothing was ever written"
    served.log.edges_of, served.stored_commands.offsets = Edges(first=0, end=5), {0: 5}
    assert (await ask(served, "GET", path))[0] == 404
    served.log.edges_of = Edges(first=0, end=5, undecided=1)
    status, shown = await ask(served, "GET", path)
    assert (status, shown["status"], shown["visible"]) == (200, "pending", False), "an open transaction may hold it"
    served.log.failure = LogUnavailable("away")
    assert (await ask(served, "GET", path))[0] == 503


async def test_a_job_that_was_stored_meanwhile_is_shown(served: Served) -> None:
    served.log.edges_of, served.stored_commands.offsets = Edges(first=0, end=5), {0: 5}
    looks: list[None] = []

    def applied() -> None:
        looks.append(None)
        if len(looks) == 2:
            served.jobs.stored = {builders.TENANT: [job_view()]}

    served.jobs.applied = applied
    assert (await ask(served, "GET", f"/api/tasks/status/{JOB}"))[1]["visible"]


@pytest.mark.parametrize("job_id", ["x", "%00", "%ff", "1", f"{JOB}0", "..", "a" * 5000])
async def test_an_id_that_is_none_is_404(served: Served, job_id: str) -> None:
    for method, path in (("GET", "status/{}"), ("GET", "logs/{}"), ("DELETE", "{}"), ("POST", "{}/retry")):
        status, _ = await ask(served, method, f"/api/tasks/{path.format(job_id)}")
        assert status in (404, 405), path
    assert not served.publisher.log


async def test_logs_are_of_the_newest_attempt_or_the_one_asked_for(served: Served) -> None:
    served.jobs.stored = {builders.TENANT: [job_view()]}
    assert (await ask(served, "GET", f"/api/tasks/logs/{JOB}"))[0] == 404
    served.jobs.logs = {(JOB, 1): "one", (JOB, 2): "two"}
    assert (await ask(served, "GET", f"/api/tasks/logs/{JOB}"))[1] == {"task_id": JOB, "attempt": 2, "log": "two"}
    assert (await ask(served, "GET", f"/api/tasks/logs/{JOB}?attempt=1"))[1]["log"] == "one"
    assert (await ask(served, "GET", f"/api/tasks/logs/{JOB}?attempt=3"))[0] == 404
    assert (await ask(served, "GET", f"/api/tasks/logs/{JOB}", key="stranger"))[0] == 404
    for attempt in ("0", "x", "99999999999999999999", "-1"):
        assert (await ask(served, "GET", f"/api/tasks/logs/{JOB}?attempt={attempt}"))[0] == 422


async def test_lists_go_on_by_cursor_or_by_offset(served: Served) -> None:
    served.jobs.stored = {
        builders.TENANT: [job_view(each, created_at=NOW - timedelta(seconds=n)) for n, each in enumerate(IDS)]
    }
    for listing in ("list", "pending"):
        found, path = [], f"/api/tasks/{listing}?limit=3"
        while path:
            _, page = await ask(served, "GET", path)
            found += [task["task_id"] for task in page["tasks"]]
            path = page["next_cursor"] and f"/api/tasks/{listing}?limit=3&cursor={page['next_cursor']}"
        assert found == IDS
        _, page = await ask(served, "GET", f"/api/tasks/{listing}?limit=3&offset=5")
        assert [task["task_id"] for task in page["tasks"]] == IDS[5:]
        assert (page["total_count"], page["total_is_estimate"], page["offset"], page["limit"]) == (7, False, 5, 3)
        assert page["next_cursor"] is None
    assert (await ask(served, "GET", "/api/tasks/failed"))[1]["tasks"] == []
    assert (await ask(served, "GET", "/api/tasks/list", key="stranger"))[1]["tasks"] == []


async def test_filters_of_the_list(served: Served) -> None:
    views = [
        job_view(IDS[0], type="shop/greet", queue="maintenance", user_id="u-1"),
        job_view(IDS[1], status=JobStatus.FAILED, tags=["x"]),
        job_view(IDS[2], metadata=msgspec.Raw(b'{"order": {"id": 17, "name": "a"}}')),
        job_view(IDS[3], created_at=NOW - timedelta(days=1)),
    ]
    served.jobs.stored = {builders.TENANT: views}
    for query, expected in (
        ("type=shop/greet", [0]),
        ("queue=maintenance", [0]),
        ("user_id=u-1", [0]),
        ("status=failed", [1]),
        ("tag=x", [1]),
        ("metadata=order.id=17", [2]),
        ("metadata=order.name=a", [2]),
        ("metadata=order.id=18", []),
        ("to=2025-12-05T00:00:00Z", [3]),
        ("from=2025-12-05T00:00:00Z&type=echo", [1, 2]),
    ):
        status, page = await ask(served, "GET", f"/api/tasks/list?{query}")
        assert (status, [task["task_id"] for task in page["tasks"]]) == (200, [IDS[n] for n in expected]), query


@pytest.mark.parametrize(
    "query",
    [
        "status=done", "status=", "type=No!", "queue=No!", "queue=%00", "user_id=", "user_id=%00", "tag=%0a",
        "from=yesterday", "from=2025-12-05T00:00:00", "to=x", "metadata=x", "metadata==1", 'metadata=a="%5Cu0000"',
        "metadata=" + "a" * 2000, "limit=0", "limit=501", "limit=x", "offset=-1", "offset=10001", "offset=x",
        "cursor=x", "cursor=W10", "cursor=WzEsMl0", "offset=0&cursor=W10", "nonsense=1", "status=failed&status=failed",
    ],
)  # fmt: skip
async def test_a_query_that_is_none_is_named(served: Served, query: str) -> None:
    status, answer = await ask(served, "GET", f"/api/tasks/list?{query}")
    assert (status, answer["code"]) == (422, "VALIDATION_ERROR"), query


async def test_types_show_their_schemas(served: Served) -> None:
    status, answer = await ask(served, "GET", "/api/tasks/types", key="reader")
    assert status == 200
    types = {each["type"]: each for each in answer["types"]}
    assert list(types) == ["echo", "http_probe", "maintenance/optimize-database", "shop/greet"]
    assert types["maintenance/optimize-database"]["right"] == "admin"
    assert types["shop/greet"]["schema"]["required"] == ["name"]
    assert types["echo"]["limits"]["max_attempts"] == 3


async def test_health_says_what_stands_still(served: Served) -> None:
    served.jobs.queue_views = [queue_view()]
    served.jobs.executor_views = [executor()]
    status, health = await ask(served, "GET", "/api/tasks/health", key="reader")
    assert (status, health["status"], health["problems"], health["intake_lag"]) == (200, "healthy", [], 0)
    assert served.jobs.counted_for == [builders.TENANT]

    served.log.edges_of = Edges(first=0, end=20_000)
    served.jobs.queue_views = [
        queue_view("slow", ready=1, oldest_ready_s=601.0),
        queue_view("paused", ready=1, executors=0, paused=True, oldest_ready_s=9000.0),
    ]
    served.jobs.executor_views = [executor(silent_s=31.0)]
    _, health = await ask(served, "GET", "/api/tasks/health")
    assert (health["status"], health["intake_lag"], len(health["problems"])) == ("degraded", 20_000, 3)
    assert served.jobs.counted_for[-1] is None, "an administrator sees all tenants counted"

    served.jobs.queue_views = [queue_view("left", ready=1, executors=0)]
    _, health = await ask(served, "GET", "/api/tasks/health")
    assert (health["status"], health["problems"][0]) == ("unhealthy", "queue left has jobs and no executor")
    served.log.failure = LogUnavailable("away")
    _, health = await ask(served, "GET", "/api/tasks/health")
    assert (health["status"], health["intake_lag"]) == ("unhealthy", None)


async def test_reads_need_postgres(served: Served) -> None:
    served.jobs.failure = StoreUnavailable("away")
    for path in (f"status/{JOB}", f"logs/{JOB}", "list", "pending", "failed", "health", "queues", "schedules"):
        assert (await ask(served, "GET", f"/api/tasks/{path}"))[0] == 503, path
    assert (await ask(served, "GET", "/api/tasks/types"))[0] == 200
