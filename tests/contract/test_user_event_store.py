"""Contract of the user event store: the fake that unit tests use answers as Postgres does."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import msgspec
import pytest

from deploy.local.development import TENANT
from gateway.events.postgres import PostgresUserEventStore
from gateway.events.store import Reader, UserEventFilter, UserEventStore
from gateway.events.views import UserEventView
from gateway.postgres.pool import PostgresReads
from schemas.ids import uuid7
from tests.support.fakes import MemoryUserEventStore
from tests.support.stack import RunningStack
from tests.support.user_events import UserEventClient

# The type, name and payload of each event, the oldest first; all of one user.
GIVEN = [
    ("view", None, {"page": "/"}),
    ("view", "Cart Viewed", {"cart": {"total": 12.5}}),
    ("click", None, {"page": "/", "n": 1}),
    ("order", "Order Completed", {"cart": {"total": 12.5}}),
    ("click", None, {}),
]


@dataclass(frozen=True, slots=True)
class Case:
    """A store with the given events of one user, and what they are called."""

    store: UserEventStore
    user: str
    ids: list[str]  # the newest first
    task_id: str


@pytest.fixture(params=["memory", "postgres"])
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    user = f"user-{token_hex(8)}"
    ids = [f"{user}/{number}" for number in range(len(GIVEN))]
    if request.param == "memory":
        task_id = str(uuid7(datetime.now(UTC)))
        yield Case(_memory(user, ids, task_id), user, ids[::-1], task_id)
        return
    stack: RunningStack = request.getfixturevalue("stack")
    client, task_id = UserEventClient(stack), ""
    for event_id, (kind, name, payload) in zip(ids, GIVEN, strict=True):
        event = {"id": event_id, "type": kind, "user_id": user, "payload": payload} | ({"name": name} if name else {})
        answer = client.accepted("/api/v1/events?wait=events", event)
        task_id = answer["task_id"]
    async with PostgresReads(stack.addresses.postgres) as reads:
        yield Case(PostgresUserEventStore(reads), user, ids[::-1], task_id)


def _memory(user: str, ids: list[str], task_id: str) -> MemoryUserEventStore:
    now = datetime.now(UTC)
    views = [
        UserEventView(
            event_id=event_id,
            source="api",
            user_id=user,
            type=kind,
            name=name,
            occurred_at=None,
            received_at=now + timedelta(seconds=number),
            payload=msgspec.Raw(msgspec.json.encode(payload)),
            properties=msgspec.Raw(msgspec.json.encode(_properties(payload))),
            status="processed",
            authenticated="key",
            user_verified=True,
            task_id=task_id if event_id == ids[-1] else str(uuid7(now)),
            wal_id=f"user.events/0/{number}",
        )
        for number, (event_id, (kind, name, payload)) in enumerate(zip(ids, GIVEN, strict=True))
    ]
    return MemoryUserEventStore(TENANT, stored=views[::-1])


def _properties(payload: dict[str, object]) -> dict[str, object]:
    cart = payload.get("cart")
    return {"cart.total": cart["total"]} if isinstance(cart, dict) else payload


def of(case: Case, *, tenant: str = TENANT, user: str | None = None) -> Reader:
    return Reader(tenant=tenant, user_id=case.user if user is None else user)


async def listed(case: Case, reader: Reader, **admitted: object) -> list[str]:
    found, _ = await case.store.events(reader, UserEventFilter(**admitted), after=None, skip=0, limit=100)  # type: ignore[arg-type]
    return [view.event_id for view in found]


async def test_events_are_listed_newest_first_and_page_by_page(case: Case) -> None:
    found: list[str] = []
    after = None
    while True:
        page, after = await case.store.events(of(case), UserEventFilter(), after=after, skip=0, limit=2)
        found += [view.event_id for view in page]
        if after is None:
            break
    assert found == case.ids
    page, after = await case.store.events(of(case), UserEventFilter(), after=None, skip=3, limit=2)
    assert ([view.event_id for view in page], after) == (case.ids[3:5], None)
    assert await case.store.count(of(case), UserEventFilter()) == len(GIVEN)


async def test_filters_leave_out_what_they_do_not_name(case: Case) -> None:
    newest = dict(zip(["click2", "order", "click1", "cart", "view"], case.ids, strict=True))
    assert await listed(case, of(case), type="click") == [newest["click2"], newest["click1"]]
    assert await listed(case, of(case), name="Cart Viewed") == [newest["cart"]]
    assert await listed(case, of(case), properties={"cart.total": 12.5}) == [newest["order"], newest["cart"]]
    assert await listed(case, of(case), properties={"page": "/", "n": 1}) == [newest["click1"]]
    assert await listed(case, of(case), status="failed") == []
    assert await listed(case, of(case), user_id="somebody else") == []
    whole, _ = await case.store.events(of(case), UserEventFilter(), after=None, skip=0, limit=100)
    middle = whole[2].received_at
    assert await listed(case, of(case), received_from=middle) == case.ids[:3]
    assert await listed(case, of(case), received_before=middle) == case.ids[3:]


async def test_nobody_reads_the_events_of_another(case: Case) -> None:
    for reader in (of(case, user="somebody else"), of(case, tenant="other")):
        assert await listed(case, reader) == []
        assert await case.store.event(reader, case.ids[0]) is None
        assert await case.store.task(reader, case.task_id) == []
        assert await case.store.count(reader, UserEventFilter()) == 0
        assert (await case.store.unprocessed(reader)).received_last_hour == 0


async def test_one_event_and_one_request(case: Case) -> None:
    found = await case.store.event(of(case), case.ids[0])
    assert found is not None
    assert (found.event_id, found.status, found.user_verified) == (case.ids[0], "processed", True)
    assert await case.store.event(of(case), "no such event") is None
    assert [event.event_id for event in await case.store.task(of(case), case.task_id)] == [case.ids[0]]
    assert await case.store.task(of(case), "no task") == []
    shown = await case.store.unprocessed(of(case))
    assert (shown.pending, shown.failed, shown.oldest_pending_at) == (0, 0, None)
    assert shown.received_last_hour == shown.processed_last_hour == len(GIVEN)
