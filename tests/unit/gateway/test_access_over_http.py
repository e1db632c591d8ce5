"""Keys, rights, tenants and paths, over every route of the table."""

import msgspec
import pytest

from gateway.app import ROUTES
from gateway.errors import StoreUnavailable
from gateway.http.routes import Route
from schemas.access.credentials import Agent, Credentials, Right, new_key
from schemas.errors import ErrorCode
from tests.support import builders
from tests.unit.gateway.conftest import NOW, Served
from tests.unit.gateway.events.test_reading_over_http import TASK

KEYED = [route for route in ROUTES if route.right is not None]


def name(route: Route) -> str:
    return f"{route.method} {route.path}"


def url(route: Route) -> str:
    path = route.path.replace("{run_id}", builders.RUN).replace("{event_id}", "e-1")
    path = path.replace("{book}", "emma").replace("{chapter}", "7").replace("{call_type}", "track")
    for name_of_id in ("{task_id}", "{schedule_id}", "{operation_id}", "{job_id}"):
        path = path.replace(name_of_id, TASK)
    return path.replace("{topic}/{partition}/{offset}", "run.events/0/0")


@pytest.mark.parametrize("route", KEYED, ids=name)
@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "tg_a_b"}, {"Authorization": "Basic x"}], ids=str)
async def test_without_a_valid_key_it_is_401(served: Served, route: Route, headers: dict[str, str]) -> None:
    async with served.client.request(route.method, url(route), headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (401, "UNAUTHENTICATED")
        assert answer.headers["WWW-Authenticate"] == ('Basic realm="tidegate"' if route.takes_basic else "Bearer")


@pytest.mark.parametrize("route", KEYED, ids=name)
async def test_without_the_right_it_is_403(served: Served, route: Route) -> None:
    key = "writer" if route.right is Right.READ else "reader"
    async with served.client.request(route.method, url(route), headers=served.headers(key)) as answer:
        assert (answer.status, (await answer.json())["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    "route", [route for route in KEYED if "{run_id}" in route.path and route.method == "GET"], ids=name
)
async def test_another_tenants_run_is_404(served: Served, route: Route) -> None:
    async with served.client.request(route.method, url(route), headers=served.headers("stranger")) as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "route",
    [route for route in KEYED if route.method == "GET" and ErrorCode.STORE_UNAVAILABLE in route.refusals],
    ids=name,
)
async def test_a_store_that_is_away_is_503_and_ingestion_goes_on(served: Served, route: Route) -> None:
    served.store.failure = served.user_events.failure = StoreUnavailable("away")
    served.jobs.failure = served.documents.failure = StoreUnavailable("away")
    async with served.client.request(route.method, url(route), headers=served.headers()) as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, "STORE_UNAVAILABLE")
        assert answer.headers["Retry-After"] == "1"
    async with served.client.post(url(KEYED[0]), json=builders.event(), headers=served.headers()) as answer:
        assert answer.status == 202
    async with served.client.get("/readyz") as answer:
        assert (answer.status, await answer.json()) == (200, {"ready": True, "log": True, "store": False})


@pytest.mark.parametrize("route", ROUTES, ids=name)
@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_trailing_slash_does_not_matter(served: Served, route: Route, slash: str) -> None:
    async with served.client.request(route.method, url(route) + slash, headers=served.headers()) as answer:
        assert answer.status != 405
        assert answer.status != 404 or "no such path" not in await answer.text()


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("DELETE", f"/api/runs/{builders.RUN}/events", 405, "GET, HEAD, POST"),
        ("GET", "/nowhere", 404, None),
        ("GET", "/", 404, None),
        ("GET", "/api", 404, None),
        ("GET", "/api//runs", 404, None),
        ("GET", "/api/runs//events", 404, None),
    ],
)
async def test_other_paths_and_methods_are_problems_too(
    served: Served, method: str, path: str, status: int, allow: str | None
) -> None:
    async with served.client.request(method, path) as answer:
        assert (answer.status, answer.headers.get("Allow"), answer.content_type) == (
            status,
            allow,
            "application/problem+json",
        )


async def test_a_bearer_token_is_a_key(served: Served) -> None:
    async with served.client.get("/api/runs", headers={"Authorization": f"bearer {served.keys['all']}"}) as answer:
        assert answer.status == 200


async def test_a_key_speaks_for_its_agents_alone(served: Served) -> None:
    events = f"/api/runs/{builders.RUN}/events"
    for event, status in ((builders.event(), 202), (builders.signed(builders.event()), 403)):
        async with served.client.post(events, json=event, headers=served.headers("plain-only")) as answer:
            assert answer.status == status


async def test_a_stopping_gateway_is_not_ready_but_lives(served: Served) -> None:
    served.readiness.accepting = False
    async with served.client.get("/readyz") as ready, served.client.get("/livez") as alive:
        assert (ready.status, alive.status) == (503, 200)


async def test_a_log_that_is_away_is_not_ready(served: Served) -> None:
    served.publisher.ready = False
    async with served.client.get("/readyz") as answer:
        assert (answer.status, await answer.json()) == (503, {"ready": False, "log": False, "store": True})


async def test_requests_are_counted_by_pattern(served: Served) -> None:
    """No run id becomes a label."""
    for _ in range(2):
        async with served.client.get(f"/api/runs/{builders.RUN}", headers=served.headers()):
            pass
    async with served.client.get("/metrics") as answer:
        text = await answer.text()
    assert 'tidegate_http_requests_total{method="GET",route="/api/runs/{run_id}",status="404"} 2.0' in text
    assert builders.RUN not in text


async def test_a_key_that_was_made_a_moment_ago_opens_every_route(served: Served) -> None:
    """`tidegate keys create`, and the next command uses the key."""
    for route in KEYED:
        key_id, shown, entry = new_key(tenant=builders.TENANT, rights=list(Right), agents=None, now=NOW)
        before = served.credentials.current
        served.credentials.written = msgspec.structs.replace(before, keys={**before.keys, key_id: entry})
        async with served.client.request(route.method, url(route), headers={"X-API-Key": shown}) as answer:
            assert answer.status != 401


def with_agent(before: Credentials, agent_id: str, *secrets: str) -> Credentials:
    tenant = before.tenants[builders.TENANT]
    agents = {**tenant.agents, agent_id: Agent(secrets=list(secrets))}
    changed = msgspec.structs.replace(tenant, agents=agents)
    return msgspec.structs.replace(before, tenants={**before.tenants, builders.TENANT: changed})


@pytest.mark.parametrize("agent_id", ["new-agent", "demo-agent"])
@pytest.mark.parametrize("payload", ["small", "x" * 50_000])
@pytest.mark.parametrize("batch", [False, True])
async def test_an_agent_or_a_secret_that_was_added_a_moment_ago_is_accepted(
    served: Served, agent_id: str, payload: str, *, batch: bool
) -> None:
    given = builders.signed(builders.event(1, payload=payload), agent_id=agent_id, secret="the-newest-secret")
    path = f"/api/runs/{builders.RUN}/events/"
    body = [given] if batch else given
    served.credentials.written = with_agent(served.credentials.current, agent_id, "the-newest-secret")
    async with served.client.post(f"{path}batch" if batch else path, json=body, headers=served.headers()) as answer:
        assert answer.status == 202, await answer.text()


async def test_a_tenant_that_is_removed_while_its_request_is_checked_is_refused(served: Served) -> None:
    body = builders.event(1, meta={"agent_id": "unknown"})
    gone = msgspec.structs.replace(served.credentials.current, tenants={})
    served.credentials.written = gone
    async with served.client.post(f"/api/runs/{builders.RUN}/events/", json=body, headers=served.headers()) as answer:
        assert (answer.status, (await answer.json())["code"]) == (403, "FORBIDDEN")


async def test_a_request_without_a_key_checks_no_file(served: Served) -> None:
    for route in KEYED:
        async with served.client.request(route.method, url(route)) as answer:
            assert answer.status == 401
    assert served.credentials.file_checks == 0


async def test_an_agent_that_does_not_exist_is_named_as_such(served: Served) -> None:
    """Only to a key that may speak for every agent; one that is bound does not learn which others there are."""
    body = builders.event(1, meta={"agent_id": "nobody"})
    path = f"/api/runs/{builders.RUN}/events/"
    async with served.client.post(path, json=body, headers=served.headers()) as answer:
        problem = await answer.json()
    assert (answer.status, problem["code"]) == (403, "FORBIDDEN")
    assert problem["detail"].startswith("no such agent: the tenant has no agent 'nobody'")
    key_id, shown, entry = new_key(tenant=builders.TENANT, rights=list(Right), agents=["demo-agent"], now=NOW)
    before = served.credentials.current
    served.credentials.current = msgspec.structs.replace(before, keys={**before.keys, key_id: entry})
    details = []
    for agent_id in ("nobody", "plain-agent"):
        body = builders.event(1, meta={"agent_id": agent_id})
        async with served.client.post(path, json=body, headers={"X-API-Key": shown}) as answer:
            details.append((await answer.json())["detail"].replace(agent_id, "AGENT"))
    assert details == ["the key may not speak for agent 'AGENT'"] * 2
