"""Reading user events: accepted ones, stored ones, and nobody else's."""

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from gateway.app import ROUTES
from gateway.errors import StoreUnavailable
from gateway.events.views import UserEventView
from schemas.access.credentials import Tenant
from schemas.ids import uuid7
from tests.support import builders, tokens
from tests.unit.gateway.conftest import NOW, Served

TASK = str(uuid7(NOW))


def view(number: int, **changes: Any) -> UserEventView:
    fields: dict[str, Any] = {
        "event_id": f"e-{number}",
        "source": "api",
        "user_id": "u-1",
        "type": "click",
        "name": None,
        "occurred_at": None,
        "received_at": NOW - timedelta(seconds=number),
        "clock": "ok",
        "payload": msgspec.Raw(b'{"n": 1}'),
        "properties": msgspec.Raw(b'{"n": 1}'),
        "status": "processed",
        "authenticated": "token",
        "user_verified": True,
        "task_id": TASK,
        "wal_id": f"user.events/0/{1000 - number}",
        "stored_at": NOW,
    }
    return UserEventView(**(fields | changes))


def bearer(served: Served, sub: str = "u-1", **changes: Any) -> dict[str, str]:
    """Headers with the token of a user, whose issuer the credentials have."""
    issuer = tokens.of_secret()
    other = tokens.of_secret(iss="https://other/", secret="b" * 16 + "c0d1e2f3a4b5c6d7", tenant="other")
    current = served.credentials.current
    served.credentials.current = msgspec.structs.replace(
        current,
        issuers={"main": issuer, "other": other},
        tenants={**current.tenants, builders.TENANT: Tenant(), "other": Tenant()},
    )
    now_s = int(NOW.timestamp())
    text = tokens.token(tokens.secret_key(), sub=sub, exp=now_s + 600, iat=now_s, **changes)
    return {"Authorization": f"Bearer {text}"}


async def ask(served: Served, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any, bytes]:
    async with served.client.get(path, headers=headers or served.headers()) as answer:
        body = await answer.read()
        return answer.status, json.loads(body), body


async def test_an_event_is_there_right_after_its_202(served: Served) -> None:
    headers = served.headers(**{"Content-Type": "application/json"})
    async with served.client.post("/api/v1/events", data=b'{"id":"e-1","type":"a"}', headers=headers) as answer:
        accepted = await answer.json()
    status, shown, _ = await ask(served, "/api/v1/events/e-1")
    assert (status, shown["status"], shown["wal_id"]) == (200, "accepted", accepted["wal_id"])
    status, task, _ = await ask(served, f"/api/v1/events/batches/{accepted['task_id']}")
    assert (status, task["status"], task["counts"]) == (200, "accepted", {"accepted": 1})

    served.user_events.failure = StoreUnavailable("Postgres is away")
    assert (await ask(served, "/api/v1/events/e-1"))[0] == 200
    assert (await ask(served, "/api/v1/events/e-2"))[0] == 503
    served.user_events.failure = None

    served.user_events.stored = [view(1, wal_id=accepted["wal_id"], task_id=accepted["task_id"])]
    assert (await ask(served, "/api/v1/events/e-1"))[1]["status"] == "processed"
    assert (await ask(served, f"/api/v1/events/batches/{accepted['task_id']}"))[1]["status"] == "done"


async def test_pages_go_on_by_cursor_or_by_number(served: Served) -> None:
    served.user_events.stored = [view(number) for number in range(7)]
    found, path = [], "/api/v1/events?limit=3"
    while path:
        _, page, _ = await ask(served, path)
        found += [event["event_id"] for event in page["events"]]
        path = page["next_cursor"] and f"/api/v1/events?limit=3&cursor={page['next_cursor']}"
    assert found == [f"e-{number}" for number in range(7)]
    _, page, _ = await ask(served, "/api/v1/events?page=2&size=3")
    assert [event["event_id"] for event in page["events"]] == ["e-3", "e-4", "e-5"]
    assert (page["page"], page["size"], page["total"]) == (2, 3, 7)


@pytest.mark.parametrize(
    "query",
    [
        *("page=0", "page=x", "size=501", "page=1&cursor=x", "cursor=x", "status=accepted", "property=x", "type=A B"),
        *("from=yesterday", "user_id=", "limit=0", "unknown=1", "property=" + "x" * 2000),
    ],
)
async def test_bad_parameters_are_named(served: Served, query: str) -> None:
    status, answer, _ = await ask(served, f"/api/v1/events?{query}")
    assert (status, answer["code"]) == (422, "VALIDATION_ERROR"), answer


async def test_lists_are_filtered(served: Served) -> None:
    served.user_events.stored = [
        view(1, properties=msgspec.Raw(b'{"cart.total": 12.5, "city": "Kiel"}')),
        view(2, type="view", status="pending", name="Cart Viewed"),
        view(3, user_id="u-2", status="failed", error_class="ValueError"),
    ]
    for query, expected in (
        ("property=cart.total%3D12.5", ["e-1"]),
        ("property=city%3DKiel", ["e-1"]),
        ("type=view", ["e-2"]),
        ("name=Cart%20Viewed", ["e-2"]),
        ("status=failed", ["e-3"]),
        ("user_id=u-2", ["e-3"]),
    ):
        assert [event["event_id"] for event in (await ask(served, f"/api/v1/events?{query}"))[1]["events"]] == expected
    status, shown, _ = await ask(served, "/api/v1/events/status/unprocessed")
    assert (status, shown["pending"], shown["failed"]) == (200, 1, 1)
    assert shown["errors"] == [{"error_class": "ValueError", "count": 1}]
    assert (await ask(served, "/api/v1/events/status/unprocessed", served.headers("reader")))[0] == 403


async def test_a_user_sees_what_is_the_users_own(served: Served) -> None:
    own = bearer(served)
    served.user_events.stored = [
        view(1),
        view(2, user_id="u-2"),
        view(3, authenticated="key", user_verified=False),  # planted by a key without the right
        view(4, authenticated="key"),
    ]
    _, page, _ = await ask(served, "/api/v1/events", own)
    assert [event["event_id"] for event in page["events"]] == ["e-1", "e-4"]
    missing = await ask(served, "/api/v1/events/no-such", own)
    for event_id in ("e-2", "e-3"):
        status, shown, _ = await ask(served, f"/api/v1/events/{event_id}", own)
        assert status == 404
        volatile = {"instance", "trace_id"}
        assert {k: v for k, v in shown.items() if k not in volatile} == {
            k: v for k, v in missing[1].items() if k not in volatile
        }, "byte for byte as a missing one"
    assert (await ask(served, "/api/v1/events?user_id=u-2", own))[1]["events"] == []
    assert (await ask(served, "/api/v1/events/status/unprocessed", own))[1]["received_last_hour"] == 2


async def test_a_user_of_another_tenant_sees_nothing(served: Served) -> None:
    served.user_events.stored = [view(1)]
    bearer(served)
    now_s = int(NOW.timestamp())
    text = tokens.token(
        tokens.secret_key("b" * 16 + "c0d1e2f3a4b5c6d7"), iss="https://other/", sub="u-1", exp=now_s + 600, iat=now_s
    )
    other = {"Authorization": f"Bearer {text}"}
    assert (await ask(served, "/api/v1/events", other))[1]["events"] == []
    assert (await ask(served, "/api/v1/events/e-1", other))[0] == 404
    assert (await ask(served, f"/api/v1/events/batches/{TASK}", other))[0] == 404


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_a_users_token_opens_what_is_meant_for_users(served: Served, route: Any) -> None:
    """Over the whole route table: what needs a right is closed to tokens, or serves their own user alone."""
    path = route.path.format(
        run_id="run-1", event_id="e-1", task_id=TASK, topic="user.events", partition="0", offset="0",
        subject="x", version="1", id="1", family="a", name="b", queue="default", schedule_id=TASK,
        operation_id=TASK, job_id=TASK, book="emma", chapter="7", call_type="track",
    )  # fmt: skip
    headers = bearer(served) | {"Content-Type": "application/json"}
    body = None if route.body is None else b"{}"
    async with served.client.request(route.method, path, headers=headers, data=body) as answer:
        if route.right is not None and not route.takes_tokens:
            assert answer.status == 403, path
        else:
            assert answer.status != 403, path
    assert route.right is None or route.takes_tokens is route.path.startswith("/api/v1/events")


async def test_a_user_sends_in_the_users_own_name(served: Served) -> None:
    headers = bearer(served) | {"Content-Type": "application/json"}
    for sent, status in (({}, 202), ({"user_id": "u-1"}, 202), ({"user_id": "u-2"}, 403)):
        body = json.dumps({"type": "a", **sent})
        async with served.client.post("/api/v1/events", data=body, headers=headers) as answer:
            assert answer.status == status, await answer.text()
    batch = json.dumps([{"type": "a"}, {"type": "a", "user_id": "u-2"}])
    async with served.client.post("/api/v1/events/batch", data=batch, headers=headers) as answer:
        results = (await answer.json())["results"]
    assert [(result["status"], result.get("code")) for result in results] == [
        ("accepted", None),
        ("rejected", "FORBIDDEN"),
    ]


async def test_rights_of_a_token_are_its_scopes(served: Served) -> None:
    bearer(served)
    issuer = tokens.of_secret(scope_claim="scope")
    served.credentials.current = msgspec.structs.replace(served.credentials.current, issuers={"main": issuer})
    now_s = int(NOW.timestamp())
    for scope, reads in (("events:read", 200), ("events:write", 403), ("", 403)):
        text = tokens.token(tokens.secret_key(), exp=now_s + 600, iat=now_s, scope=scope)
        assert (await ask(served, "/api/v1/events", {"Authorization": f"Bearer {text}"}))[0] == reads
