"""What is stored of runs: the fake that unit tests read from answers as Postgres does."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

import msgspec
import pytest

from deploy.local.development import TENANT
from gateway.postgres.pool import PostgresReads
from gateway.runs.parsing.prepared import EventIdentity
from gateway.runs.postgres import PostgresRunStore
from gateway.runs.sequence.memory import KnownEvent, RunState
from gateway.runs.store import EventFilter, RunFilter, RunPlace, RunStore
from schemas.kafka.places import RecordPlace
from schemas.runs.records import RunStatus
from schemas.runs.views import EnvironmentView, EventView, RunView
from tests.integration.test_receipts import Client
from tests.support import builders
from tests.support.fakes import MemoryRunStore
from tests.support.stack import RunningStack, wait_until

STORED_WITHIN_S = 30
GIVEN = [("message", "agent"), ("tool_call", "tool"), ("message", "user")]  # type and actor of the first run's events
ENVIRONMENT = {"python": "3.13"}
ALL = RunFilter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A store with two runs that are ours: the older one finished and with an environment, the newer one open."""

    store: RunStore
    older: str
    newer: str
    since: datetime  # both started later

    async def ours(self, **page: Any) -> tuple[list[RunView], bool]:
        """Return a page of the runs since the test began."""
        page = {"after": None, "limit": 10} | page
        runs, more = await self.store.runs(TENANT, RunFilter(started_from=self.since), **page)
        return list(runs), more


@pytest.fixture(params=["memory", "postgres"])
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    older, newer, since = f"older-{token_hex(6)}", f"newer-{token_hex(6)}", datetime.now(UTC)
    events = {older: GIVEN, newer: GIVEN[:1]}
    if request.param == "memory":
        yield Case(store=_memory(events, older), older=older, newer=newer, since=since)
        return
    stack: RunningStack = request.getfixturevalue("stack")
    client = Client(stack)
    for run_id, given in events.items():
        for seq, (kind, actor) in enumerate(given, start=1):
            sent = client.send(builders.event(seq, run_id=run_id, type=kind, actor=actor))
        client.settled(sent["wal_id"])
    assert client.ask("PUT", f"/api/runs/{older}/environment", ENVIRONMENT)[0] == 202
    assert (
        client.ask("POST", f"/api/runs/{older}/finalize", {"status": "succeeded", "event_count": len(GIVEN)})[0] == 202
    )
    trace = f"/api/runs/{older}/trace"
    wait_until(lambda: client.ask("GET", trace)[0] == 200, timeout_s=STORED_WITHIN_S, what="the trace record")
    async with PostgresReads(stack.addresses.postgres) as reads:
        store = PostgresRunStore(reads)
        yield Case(store=store, older=older, newer=newer, since=since)


def _memory(events: dict[str, list[tuple[str, str]]], older: str) -> MemoryRunStore:
    now = datetime.now(UTC)
    return MemoryRunStore(
        TENANT,
        stored_runs=[_run(run_id, len(events[run_id]), now, is_open=run_id != older) for run_id in reversed(events)],
        stored_events={
            run_id: [_event(seq, *each, now) for seq, each in enumerate(given, start=1)]
            for run_id, given in events.items()
        },
        environments={
            older: EnvironmentView(
                run_id=older,
                environment=msgspec.Raw(msgspec.json.encode(ENVIRONMENT)),
                environment_sha256="",
                wal_id="run.events/0/9",
                captured_at=now,
            )
        },
        traces={older: '{"event_count":3}'},
        numbering={(TENANT, run_id): _state(len(given)) for run_id, given in events.items()},
    )


def _state(count: int) -> RunState:
    places = {seq: RecordPlace(builders.TOPIC, 0, seq) for seq in range(1, count + 1)}
    entries = {seq: KnownEvent(sha256=b"", idempotency_key=None, place=place) for seq, place in places.items()}
    return RunState(head=count, entries=entries)


def _run(run_id: str, count: int, now: datetime, *, is_open: bool) -> RunView:
    return RunView(
        run_id=run_id,
        agent_id="plain-agent",
        status="open" if is_open else RunStatus.SUCCEEDED,
        event_count=count,
        last_seq=count,
        declared_event_count=None if is_open else count,
        started_at=now,
        updated_at=now,
        finalized_at=None if is_open else now,
    )


def _event(seq: int, kind: str, actor: str, now: datetime) -> EventView:
    return EventView(
        seq=seq,
        t=now.isoformat(),
        actor=actor,
        type=kind,
        agent_id="plain-agent",
        payload=msgspec.Raw(b"{}"),
        payload_ref=msgspec.Raw(b"null"),
        meta=msgspec.Raw(b"{}"),
        event_sha256="",
        wal_id=f"run.events/0/{seq}",
        received_at=now,
        stored_at=now,
    )


async def test_runs_are_listed_newest_first_and_page_by_page(case: Case) -> None:
    whole, more = await case.ours()
    assert ([run.run_id for run in whole], more) == ([case.newer, case.older], False)
    first, more = await case.ours(limit=1)
    assert ([run.run_id for run in first], more) == ([case.newer], True)
    rest, more = await case.ours(limit=1, after=RunPlace(first[0].started_at, first[0].run_id))
    assert ([run.run_id for run in rest], more) == ([case.older], False)


@pytest.mark.parametrize(("status", "expected"), [("succeeded", "older"), ("open", "newer"), ("failed", None)])
async def test_runs_are_listed_by_their_status(case: Case, status: str, expected: str | None) -> None:
    admitted = RunFilter(started_from=case.since, status=status)
    found, _ = await case.store.runs(TENANT, admitted, after=None, limit=10)
    assert [run.run_id for run in found] == ([] if expected is None else [getattr(case, expected)])


async def test_a_run_says_how_it_is(case: Case) -> None:
    older, newer = await case.store.run(TENANT, case.older), await case.store.run(TENANT, case.newer)
    assert older is not None
    assert newer is not None
    assert (older.status, older.event_count, older.last_seq, older.declared_event_count) == ("succeeded", 3, 3, 3)
    assert (newer.status, newer.event_count, newer.finalized_at) == ("open", 1, None)


async def test_events_are_listed_by_seq_and_page_by_page(case: Case) -> None:
    async def page(after_seq: int, limit: int, **admitted: str) -> tuple[list[int], bool]:
        admits = EventFilter(**admitted)
        events, more = await case.store.events(TENANT, case.older, admits, after_seq=after_seq, limit=limit)
        return [event.seq for event in events], more

    assert await page(0, 10) == ([1, 2, 3], False)
    assert await page(0, 2) == ([1, 2], True)
    assert await page(2, 2) == ([3], False)
    assert await page(0, 10, type="message") == ([1, 3], False)
    assert await page(0, 10, type="message", actor="user") == ([3], False)


async def test_another_tenant_and_another_run_have_nothing(case: Case) -> None:
    for tenant, run_id in (("other", case.older), (TENANT, f"none-{case.older}")):
        assert await case.store.run(tenant, run_id) is None
        assert await case.store.events(tenant, run_id, EventFilter(), after_seq=0, limit=10) == ([], False)
        assert await case.store.environment(tenant, run_id) is None
        assert await case.store.trace(tenant, run_id) is None
        assert await case.store.integrity(tenant, run_id, home_partition=None) is None
        assert await case.store.run_states([((tenant, run_id), [])]) == {}
    assert (await case.store.runs("other", ALL, after=None, limit=10)) == ([], False)


async def test_environment_and_trace_are_there_once_they_are_stored(case: Case) -> None:
    environment = await case.store.environment(TENANT, case.older)
    assert environment is not None
    assert msgspec.json.decode(environment.environment) == ENVIRONMENT
    trace = await case.store.trace(TENANT, case.older)
    assert trace is not None
    assert msgspec.json.decode(trace)["event_count"] == len(GIVEN)
    assert await case.store.environment(TENANT, case.newer) is None
    assert await case.store.trace(TENANT, case.newer) is None


async def test_the_state_of_a_run_has_its_head_and_the_events_asked_about(case: Case) -> None:
    key = TENANT, case.older
    asked = [EventIdentity(seq=2, sha256=b"", idempotency_key=None)]
    found = (await case.store.run_states([(key, asked)]))[key]
    assert found.head == len(GIVEN)
    assert found.entries[2].place is not None
    assert await case.store.answers()
