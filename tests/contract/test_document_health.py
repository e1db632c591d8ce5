"""What doctor and status ask Postgres about documents, against real tables."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from deploy.admin import document_health
from deploy.admin.document_health import LaneState
from tests.support.jobs import Tables

MINILM, OPENAI = "a" * 64, "b" * 64


@pytest.fixture
def documents(tables: Tables) -> Iterator[Tables]:
    """Yield the tables of documents, empty; what the test leaves is removed."""
    yield tables
    tables.rows("TRUNCATE document_jobs, documents, document_collections, document_totals")


def add_job(
    tables: Tables, *, phase: str = "submitted", lane: str = "normal", age_s: float = 0.0, **more: object
) -> str:
    """Insert a job of a document that was submitted *age_s* ago; *more* are its other columns. Return its id."""
    job_id = str(uuid4())
    columns: dict[str, object] = {
        "job_id": job_id,
        "tenant_id": "demo",
        "collection": "emma",
        "document": job_id,
        "partition": 0,
        "revision": 1,
        "kind": "put",
        "phase": phase,
        "priority": 5,
        "lane": lane,
        "cost": 100,
        "max_retries": 3,
        **more,
    }
    names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
    tables.rows(
        f"INSERT INTO document_jobs ({names}, submitted_at, queued_at) "
        f"SELECT {places}, moment, moment FROM (SELECT clock_timestamp() - make_interval(secs => %s) AS moment) AS age",
        *columns.values(),
        age_s,
    )
    tables.rows("INSERT INTO document_totals VALUES ('demo', 0, 'submitted', 'normal', 1, 1) ON CONFLICT DO NOTHING")
    return job_id


def test_the_extensions_of_the_stack_are_all_there(documents: Tables) -> None:
    found = document_health.extensions(documents.server.owner)
    assert list(document_health.of_extensions(found)) == []


def test_what_waits_is_counted_by_lane(documents: Tables) -> None:
    add_job(documents, lane="low", age_s=400)
    add_job(documents, lane="low", age_s=10)
    found = document_health.waiting(documents.server.owner)
    assert [each.documents for each in found.lanes] == [0, 0, 2]
    assert found.lanes[0] == LaneState(lane="high", documents=0, oldest_s=None)
    [problem] = document_health.of_waiting(found)
    assert "2 documents of lane low wait" in problem
    add_job(documents, phase="stored", ended_at="now")
    assert list(document_health.of_waiting(document_health.waiting(documents.server.owner))) == []


def test_a_document_that_was_begun_long_ago_is_stuck_and_one_that_waits_for_an_attempt_is_not(
    documents: Tables,
) -> None:
    job_id = add_job(documents, phase="embedding", starts=1, begun_at="2026-01-01T00:00:00Z", chunks=9, chunks_done=4)
    add_job(documents, starts=0, attempts=1, begun_at="2026-01-01T00:00:00Z")
    add_job(documents, starts=1, begun_at="now")
    assert [(each.job_id, each.chunks_done) for each in document_health.stuck(documents.server.owner)] == [(job_id, 4)]


def test_failures_of_the_last_hour_are_counted_by_reason(documents: Tables) -> None:
    for stage, ended_at in (("parse", "now"), ("parse", "now"), ("embed", "2026-01-01T00:00:00Z")):
        error = f'{{"stage": "{stage}", "reason": "no_text"}}'
        newest = add_job(documents, phase="failed", ended_at=ended_at, error=error)
    [found] = document_health.failed(documents.server.owner)
    assert (found.stage, found.reason, found.documents) == ("parse", "no_text", 2)
    assert found.newest_job != newest


def test_a_collection_that_is_built_anew_is_told_with_what_is_left(documents: Tables) -> None:
    for embedder, name in ((MINILM, "minilm"), (OPENAI, "openai")):
        documents.rows("SELECT add_document_embedder(%s, %s, 4, ''::bytea)", embedder, name)
    documents.rows(
        "INSERT INTO document_collections (tenant_id, collection, embedder, building, builds, built_since) "
        "VALUES ('demo', 'emma', %s, %s, 2, now())",
        MINILM,
        OPENAI,
    )
    for chapter, building_revision, build in (("1", None, None), ("2", 1, 1), ("3", 1, 2)):
        documents.rows(
            "INSERT INTO documents (tenant_id, collection, document, partition, latest_revision, live_revision, "
            "building_revision, build) VALUES ('demo', 'emma', %s, 0, 1, 1, %s, %s)",
            chapter,
            building_revision,
            build,
        )
    [found] = document_health.building(documents.server.owner)
    assert (found.active, found.building) == ("minilm", "openai")
    assert found.documents_missing == 2
    assert (found.documents_failed, found.is_blocked) == (0, False)
    for chapter in ("1", "2"):
        add_job(documents, kind="reembed", phase="failed", document=chapter, ended_at="now", age_s=-1.0)
    [found] = document_health.building(documents.server.owner)
    assert (found.documents_failed, found.failed_documents, found.is_blocked) == (2, ["1", "2"], True)
    add_job(documents, kind="reembed", document="1")
    [found] = document_health.building(documents.server.owner)
    assert not found.is_blocked
