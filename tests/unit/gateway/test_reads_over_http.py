"""Reads: pages, cursors, filters, and JSON that comes back as it was sent."""

from datetime import timedelta

import msgspec
import pytest
from yarl import URL

from gateway.runs.integrity import IntegrityView, MissingView, RejectionsView, SignaturesView
from gateway.runs.store import EventFilter, RunFilter
from schemas.kafka import cursors
from schemas.runs.views import EnvironmentView, EventView, RunView
from tests.support import builders
from tests.unit.gateway.conftest import NOW, Served, event_view, run_view

# Of what the fixture's log has: persistence has committed 0, the trace records end at 9.
LIVE = cursors.encode({"run_events------------": {0: 0}, "run_traces------------": {0: 9}})
VERBATIM = '{ "a" : 1.00, "b": 1e5 }'


def run(run_id: str = builders.RUN, minutes: int = 0) -> RunView:
    return run_view(run_id, started_at=NOW + timedelta(minutes=minutes, microseconds=7))


def stored(seq: int) -> EventView:
    return event_view(seq, payload=VERBATIM, meta=VERBATIM)


async def test_pages_of_runs_follow_each_other(served: Served) -> None:
    """`next_cursor` and `Link` lead through every run once."""
    served.store.stored_runs = [run(f"run-{number}", -number) for number in range(5)]
    seen, target = [], "/api/runs?limit=2&status=open&agent=plain-agent"
    while target:
        async with served.client.get(target, headers=served.headers()) as answer:
            page = await answer.json()
            assert answer.status == 200
            assert (page["next_cursor"] is None) == ("next" not in answer.links)
            target = answer.links["next"]["url"].path_qs if "next" in answer.links else ""
        seen += [one["run_id"] for one in page["runs"]]
    assert seen == [f"run-{number}" for number in range(5)]
    assert {look[0] for look in served.store.looks} == {RunFilter(agent="plain-agent", status="open")}
    assert served.store.looks[1][1].started_at == served.store.stored_runs[1].started_at  # type: ignore[attr-defined]


async def test_pages_of_events_follow_each_other(served: Served) -> None:
    served.store.stored_runs = [run()]
    served.store.stored_events = {builders.RUN: [stored(seq) for seq in (1, 2, 5)]}
    url = f"/api/runs/{builders.RUN}/events"
    async with served.client.get(f"{url}?limit=2&type=reasoning&actor=agent", headers=served.headers()) as answer:
        page = await answer.json()
    assert [event["seq"] for event in page["events"]] == [1, 2]
    async with served.client.get(url, params={"cursor": page["next_cursor"]}, headers=served.headers()) as answer:
        last = await answer.json()
    assert ([event["seq"] for event in last["events"]], last["next_cursor"]) == ([5], None)
    assert served.store.looks[0] == (EventFilter(type="reasoning", actor="agent"), 0)


async def test_documents_come_back_as_they_were_sent(served: Served) -> None:
    served.store.stored_runs = [run()]
    served.store.stored_events = {builders.RUN: [stored(1)]}
    served.store.environments = {
        builders.RUN: EnvironmentView(
            run_id=builders.RUN,
            environment=msgspec.Raw(VERBATIM),
            environment_sha256="00",
            wal_id="run.events/0/0",
            captured_at=NOW,
        )
    }
    served.store.traces = {builders.RUN: VERBATIM}
    texts = []
    for part in ("events", "environment", "trace"):
        async with served.client.get(f"/api/runs/{builders.RUN}/{part}", headers=served.headers()) as answer:
            texts.append(await answer.text())
    assert f'"payload":{VERBATIM},' in texts[0]
    assert f'"meta":{VERBATIM},' in texts[0]
    assert f'"environment":{VERBATIM},' in texts[1]
    assert texts[2] == VERBATIM


async def test_the_integrity_of_a_run_is_shown(served: Served) -> None:
    """Also of one that is in no list of runs, since all of it was rejected."""
    served.store.integrities = {
        builders.RUN: IntegrityView(
            run_id=builders.RUN,
            complete=False,
            status=None,
            event_count=0,
            declared_event_count=None,
            last_seq=0,
            missing=MissingView(count=2, range_count=1, ranges=[(3, 4)]),
            duplicates=0,
            rejected=RejectionsView(count=1, reasons={"conflict": 1}, last=[]),
            signatures=SignaturesView(signed=0, unsigned=0),
            chain_head=None,
        )
    }
    async with served.client.get(f"/api/runs/{builders.RUN}/integrity", headers=served.headers()) as answer:
        shown = await answer.json()
    assert (answer.status, shown["complete"], shown["status"]) == (200, False, None)
    assert shown["missing"] == {"count": 2, "range_count": 1, "ranges": [[3, 4]]}
    assert shown["rejected"] == {"count": 1, "reasons": {"conflict": 1}, "last": []}


async def test_a_run_without_events_is_an_empty_page(served: Served) -> None:
    served.store.stored_runs = [run()]
    async with served.client.get(f"/api/runs/{builders.RUN}/events", headers=served.headers()) as answer:
        assert (answer.status, await answer.json()) == (
            200,
            {"events": [], "next_cursor": None, "live_cursor": LIVE},
        )


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=501", "limit=x", "limit=%C2%B2", "limit=99999999999", "cursor=x", "cursor=bnVsbA",
        "cursor=%00", "status=done", "agent=%00", "from=yesterday", "to=2025-12-05T10:00:00", "cursor=WyIyMDI1IiwieCJd",
    ],
)  # fmt: skip
async def test_a_query_that_is_not_valid_is_422(served: Served, query: str) -> None:
    async with served.client.get(f"/api/runs?{query}", headers=served.headers()) as answer:
        problem = await answer.json()
        assert (answer.status, problem["code"]) == (422, "VALIDATION_ERROR")
        assert [fault["parameter"] for fault in problem["errors"]] == [query.partition("=")[0]]


@pytest.mark.parametrize("query", ["type=A", "actor=%00", "cursor=Wy0xXQ", "cursor=WzFlMzBd", "cursor=W10"])
async def test_a_query_of_events_that_is_not_valid_is_422(served: Served, query: str) -> None:
    async with served.client.get(f"/api/runs/{builders.RUN}/events?{query}", headers=served.headers()) as answer:
        problem = await answer.json()
        assert (answer.status, problem["code"]) == (422, "VALIDATION_ERROR")
        assert [fault["parameter"] for fault in problem["errors"]] == [query.partition("=")[0]]


async def test_no_input_becomes_a_header(served: Served) -> None:
    """What is sent escaped stays escaped where a page names the next one."""
    served.store.stored_runs = [run("run-1"), run("run-2")]
    query = "limit=1&from=2025-01-01T00:00:00%2b00:00&status=open"
    hostile = query.replace("open", "open%0d%0aSet-Cookie:%20a%0d%0a%0d%0a")
    async with served.client.get(URL(f"/api/runs?{query}", encoded=True), headers=served.headers()) as answer:
        assert answer.status == 200
        assert "+" not in answer.headers["Link"]
    async with served.client.get(URL(f"/api/runs?{hostile}", encoded=True), headers=served.headers()) as answer:
        assert answer.status == 422
        assert "Set-Cookie" not in answer.headers
