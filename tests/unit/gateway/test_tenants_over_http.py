"""What a key lets one see and do, over every route of the table: nothing of another tenant, and nothing without it."""

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from prometheus_client import generate_latest

from gateway.app import ROUTES
from gateway.http.routes import Route
from gateway.kafka.reader import Edges, LogRecord
from gateway.runs.integrity import IntegrityView, MissingView, RejectionsView, SignaturesView
from schemas.access.credentials import Agent, Right, Tenant, new_key
from schemas.catalogue import CODEC
from schemas.ids import uuid7
from schemas.kafka.places import RecordPlace
from schemas.process.telemetry import GROUP_LAG, HTTP_CONNECTIONS
from schemas.runs.views import EnvironmentView, EventView, RunView
from tests.support import builders, document_fakes
from tests.support.job_views import job_view, operation_view, schedule_view
from tests.unit.gateway.conftest import NOW, Served
from tests.unit.gateway.events.test_reading_over_http import view

READERS = {Right.DOCUMENTS_READ: "documents"}  # the key that reads, where it is not the one of runs
KEYED = [route for route in ROUTES if route.right is not None]
NAMED = [route for route in KEYED if "{" in route.path]
READS = [route for route in NAMED if route.method == "GET"]
WRITES = [route for route in NAMED if route.method != "GET" and "{run_id}" in route.path]  # others have tests of theirs
TRACE = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
NOBODYS = "run-of-nobody"
TASKS = (str(uuid7(NOW)), str(uuid7(NOW)))  # nobody's, and one with an event
PLACE = RecordPlace("run.events", 0, 0)


def name(route: Route) -> str:
    return f"{route.method} {route.path}"


def url(route: Route, run_id: str = builders.RUN, offset: int = 0) -> str:
    path = route.path.replace("{run_id}", run_id).replace("{event_id}", run_id)
    path = path.replace("{book}", "emma").replace("{chapter}", "7" if run_id == builders.RUN else "8")
    for name_of_id in ("{task_id}", "{schedule_id}", "{operation_id}", "{job_id}"):
        path = path.replace(name_of_id, TASKS[run_id == builders.RUN])
    return path.replace("{topic}/{partition}/{offset}", f"run.events/0/{offset}")


def body(route: Route, run_id: str = builders.RUN) -> Any:
    """Return what the route takes."""
    event = builders.event(run_id=run_id)
    of_path = {"events": event, "batch": [event], "finalize": {"status": "failed"}, "environment": {"a": "b"}}
    return of_path[route.path.rsplit("/", 1)[1]]


@pytest.fixture
async def stocked(served: Served) -> Served:
    """Return a gateway with a whole run of one tenant, in the log and in the store; the other tenant has nothing."""
    run_id, free = builders.RUN, msgspec.Raw(b'{"canary":1}')
    times = {"started_at": NOW - timedelta(hours=1), "updated_at": NOW, "finalized_at": None}
    counts = {"event_count": 1, "last_seq": 1, "declared_event_count": None}
    served.store.stored_runs = [RunView(run_id=run_id, agent_id="plain-agent", status="open", **counts, **times)]
    event = {"seq": 1, "t": "2025-12-05T10:00:00Z", "actor": "agent", "type": "a", "agent_id": "plain-agent"}
    stored = {"event_sha256": "00", "wal_id": "run.events/0/0", "received_at": NOW, "stored_at": NOW}
    free_parts = {"payload": free, "payload_ref": msgspec.Raw(b"null"), "meta": free}
    served.store.stored_events = {run_id: [EventView(**event, **stored, **free_parts)]}
    served.user_events.stored = [view(1, event_id=run_id, task_id=TASKS[True])]
    served.store.traces = {run_id: '{"canary":1}'}
    served.jobs.stored = {builders.TENANT: [job_view(TASKS[True])]}
    served.jobs.logs = {(TASKS[True], 1): "canary"}
    served.jobs.schedule_views = {builders.TENANT: [schedule_view(schedule_id=TASKS[True])]}
    served.jobs.operation_views = {builders.TENANT: [operation_view(TASKS[True])]}
    served.stored_commands.offsets = served.document_commands.offsets = {0: 10}
    served.documents.stored = {builders.TENANT: [document_fakes.job_view(TASKS[True])]}
    served.documents.document_views = {builders.TENANT: [document_fakes.document_view(7)]}
    served.documents.chunk_pages = {(builders.TENANT, "emma", "7"): document_fakes.chunk_page()}
    tenants = served.credentials.current.tenants | {"other": Tenant(agents={"plain-agent": Agent()})}
    served.credentials.current = msgspec.structs.replace(served.credentials.current, tenants=tenants)
    served.store.environments = {
        run_id: EnvironmentView(
            run_id=run_id, environment=free, environment_sha256="00", wal_id="run.events/0/0", captured_at=NOW
        )
    }
    served.store.integrities = {
        run_id: IntegrityView(
            run_id=run_id,
            complete=True,
            status=None,
            event_count=1,
            declared_event_count=None,
            last_seq=1,
            missing=MissingView(count=0, range_count=0, ranges=[]),
            duplicates=0,
            rejected=RejectionsView(count=0, reasons={}, last=[]),
            signatures=SignaturesView(signed=0, unsigned=1),
            chain_head=None,
        )
    }
    record = LogRecord(
        place=PLACE, written_at=NOW, key=run_id.encode(), value=CODEC.encode(builders.run_event()), headers=[]
    )
    served.log.records[PLACE], served.log.edges_of = record, Edges(first=0, end=1)
    return served


async def ask(served: Served, route: Route, path: str, headers: dict[str, str]) -> tuple[int, str]:
    async with served.client.request(route.method, path, headers=headers | TRACE) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize("route", READS, ids=name)
async def test_what_is_anothers_looks_as_what_is_nobodys(stocked: Served, route: Route) -> None:
    """The answers differ in nothing but the name that was asked for; its owner is shown it."""
    reader = READERS.get(route.right, "reader")
    assert (await ask(stocked, route, url(route), stocked.headers(reader)))[0] == 200
    status, anothers = await ask(stocked, route, url(route), stocked.headers("stranger"))
    _, nobodys = await ask(stocked, route, url(route, NOBODYS, 7), stocked.headers("stranger"))
    assert status == 404
    assert anothers == nobodys.replace(url(route, NOBODYS, 7), url(route))


async def test_lists_hold_nothing_of_another(stocked: Served) -> None:
    (route,) = [each for each in KEYED if each.path == "/api/runs"]
    assert builders.RUN in (await ask(stocked, route, "/api/runs", stocked.headers("reader")))[1]
    assert await ask(stocked, route, "/api/runs", stocked.headers("stranger")) == (
        200,
        '{"runs":[],"next_cursor":null}',
    )


@pytest.mark.parametrize("route", WRITES, ids=name)
async def test_anothers_run_of_the_same_name_is_another_run(stocked: Served, route: Route) -> None:
    """One tenant's run is written and closed; the other's begins at 1, and its record is the other's."""
    events, finalize = f"/api/runs/{builders.RUN}/events", f"/api/runs/{builders.RUN}/finalize"
    for path, sent in ((events, builders.event()), (finalize, {"status": "succeeded"})):
        async with stocked.client.post(path, json=sent, headers=stocked.headers()) as answer:
            assert answer.status == 202
    async with stocked.client.request(
        route.method, url(route), json=body(route), headers=stocked.headers("stranger")
    ) as answer:
        told = await answer.text()
        assert answer.status == 202, told
        assert "duplicate" not in told
    written = [CODEC.decode(record.value) for record in stocked.publisher.published]
    assert [(record.tenant, record.run_id) for record in written] == [
        (builders.TENANT, builders.RUN),
        (builders.TENANT, builders.RUN),
        ("other", builders.RUN),
    ]


@pytest.mark.parametrize("route", WRITES, ids=name)
async def test_no_input_names_a_tenant(stocked: Served, route: Route) -> None:
    """Whose a record is follows from the key, whatever headers say; a query that names one is refused."""
    headers = stocked.headers("stranger", tenant=builders.TENANT, **{"X-Tenant": builders.TENANT})
    target = f"{url(route)}?tenant={builders.TENANT}"
    async with stocked.client.request(route.method, target, json=body(route), headers=headers) as answer:
        assert answer.status == 422
    assert not stocked.publisher.published
    async with stocked.client.request(route.method, url(route), json=body(route), headers=headers) as answer:
        assert answer.status == 202
    (record,) = stocked.publisher.published
    assert CODEC.decode(record.value).tenant == "other"
    assert dict(record.headers)["tenant"] == b"other"


@pytest.mark.parametrize("route", KEYED, ids=name)
async def test_keys_out_of_force_are_told_apart_by_nothing(stocked: Served, route: Route) -> None:
    """Unknown, wrong, revoked, expired, of a tenant that is gone: one answer, byte for byte."""
    current, kept, presented = stocked.credentials.current, {}, ["tg_000000000000_secret", f"{stocked.keys['all']}0"]
    for tenant, changes in (
        (builders.TENANT, {"revoked_at": NOW}),
        (builders.TENANT, {"expires_at": NOW}),
        ("gone", {}),
    ):
        key_id, shown, entry = new_key(tenant=tenant, rights=list(Right), agents=None, now=NOW)
        kept[key_id] = msgspec.structs.replace(entry, **changes)
        presented.append(shown)
    stocked.credentials.current = msgspec.structs.replace(current, keys=current.keys | kept)
    answers = set()
    for key in presented:
        for header in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
            answers.add(await ask(stocked, route, url(route), header))
    ((status, told),) = answers
    assert (status, json.loads(told)["code"]) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize("route", KEYED, ids=name)
@pytest.mark.parametrize("right", Right)
async def test_one_right_opens_its_routes_alone(stocked: Served, route: Route, right: Right) -> None:
    key_id, shown, entry = new_key(tenant=builders.TENANT, rights=[right], agents=None, now=NOW)
    current = stocked.credentials.current
    stocked.credentials.current = msgspec.structs.replace(current, keys={**current.keys, key_id: entry})
    status, _ = await ask(stocked, route, url(route), {"X-API-Key": shown})
    # The counts of a tenant need a second right, and a key has none of a user's own.
    assert (status == 403) is (right is not route.right or route.path == "/api/v1/events/status/unprocessed")


async def test_metrics_on_the_port_of_all_name_no_endpoint(served: Served) -> None:
    """How far groups are is shown to operators, on the management port."""
    served.telemetry[GROUP_LAG].labels("evaluation.other-tenants").set(1)
    async with served.client.get("/metrics") as answer:
        public = await answer.text()
    assert HTTP_CONNECTIONS.name in public
    assert "other-tenants" not in public
    assert GROUP_LAG.name not in public
    assert "other-tenants" in generate_latest(served.telemetry.registry).decode()
