"""Receipts, the status and waits over HTTP."""

from datetime import timedelta

import pytest

from gateway.errors import LogUnavailable
from gateway.kafka.reader import Edges, LogRecord
from schemas.catalogue import CODEC
from schemas.kafka.places import RecordPlace
from tests.support import builders
from tests.unit.gateway.conftest import NOW, Served

PLACE = RecordPlace("run.events", 0, 0)
EVENTS = f"/api/runs/{builders.RUN}/events"


@pytest.fixture
def written(served: Served) -> Served:
    """Return the gateway with one event in the log that no group has come to."""
    served.log.records[PLACE] = LogRecord(
        place=PLACE,
        written_at=NOW - timedelta(seconds=2),
        key=builders.RUN.encode(),
        value=CODEC.encode(builders.run_event()),
        headers=[],
    )
    served.log.edges_of = Edges(first=0, end=1)
    return served


async def test_a_receipt_is_shown_to_its_tenant_alone(written: Served) -> None:
    for key, status in (("all", 200), ("reader", 200), ("stranger", 404)):
        async with written.client.get(f"/api/wal/{PLACE.wal_id}", headers=written.headers(key)) as answer:
            assert answer.status == status
            receipt = await answer.json()
        if status == 200:
            assert receipt["wal_id"] == PLACE.wal_id
            assert receipt["log"] == {"state": "present", "first_offset": 0, "end_offset": 1}
            assert receipt["groups"][0]["state"] == "waiting"


@pytest.mark.parametrize(
    "wal_id", ["run.events/0/1", "run.events/1/0", "run.events/x/0", "run.events/0/-1", "run.events/0/1e3", "A/0/0"]
)
async def test_a_place_without_a_record_is_404(written: Served, wal_id: str) -> None:
    async with written.client.get(f"/api/wal/{wal_id}", headers=written.headers()) as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("path", [f"/api/wal/{PLACE.wal_id}", "/api/wal/status"])
async def test_a_log_that_is_away_is_503(written: Served, path: str) -> None:
    written.log.failure = LogUnavailable("away")
    async with written.client.get(path, headers=written.headers()) as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, "LOG_UNAVAILABLE")


async def test_the_status_is_shown(written: Served) -> None:
    written.publisher.in_flight = 4
    async with written.client.get("/api/wal/status", headers=written.headers("reader")) as answer:
        status = await answer.json()
    assert status["gateway"] == {"in_flight_records": 4, "admission_multiplier": 1.0, "admitted_per_s": None}
    assert status["groups"][0]["lag_records"] == 1
    assert status["groups"][0]["lag_s"] == 2.0


WRITES = [
    ("POST", EVENTS, builders.event()),
    ("POST", f"/api/runs/{builders.RUN}/finalize", {"status": "failed"}),
    ("PUT", f"/api/runs/{builders.RUN}/environment", {"python": "3.11"}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
async def test_a_wait_says_that_the_group_has_come_past(served: Served, method: str, path: str, body: object) -> None:
    served.committed.offsets[0] = 1
    for query, waited in (("?wait=persistence", True), ("", None)):
        async with served.client.request(method, path + query, json=body, headers=served.headers()) as answer:
            assert (answer.status, (await answer.json()).get("waited")) == (202, waited)


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
async def test_an_unknown_group_is_422_before_anything_is_written(
    served: Served, method: str, path: str, body: object
) -> None:
    async with served.client.request(method, f"{path}?wait=nobody", json=body, headers=served.headers()) as answer:
        detail = "wait must be one of persistence, jobs.intake, documents.intake"
        assert (answer.status, (await answer.json())["detail"]) == (422, detail)
    assert served.publisher.published == []
