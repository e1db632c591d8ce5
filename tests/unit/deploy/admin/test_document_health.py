"""Reports of doctor and status on documents: what they lack, what waits, what failed, what is stuck."""

from collections.abc import Sequence

import pytest

from deploy.admin import document_health
from deploy.admin.document_health import (
    BuildingCollection,
    Extension,
    Failures,
    LaneState,
    StuckDocument,
    Waiting,
)
from deploy.errors import NotReachable

JOB = "0192f3a0-0000-7000-8000-000000000001"


def waiting(*, oldest_s: float | None, still_s: float | None, documents: int = 3) -> Waiting:
    empty = LaneState(lane="high", documents=0, oldest_s=None)
    return Waiting(lanes=[empty, LaneState(lane="low", documents=documents, oldest_s=oldest_s)], still_s=still_s)


def test_installed_extensions_are_no_problem() -> None:
    found = [Extension(name="btree_gin", version="1.3"), Extension(name="vector", version="0.8.1")]
    assert list(document_health.of_extensions(found)) == []
    assert document_health.extensions_text(found) == "btree_gin 1.3, vector 0.8.1"


def test_an_extension_that_is_missing_is_told_from_one_that_is_not_installed() -> None:
    missing, absent = document_health.of_extensions([Extension(name="btree_gin", version=None)])
    assert "no extension vector" in missing
    assert "CREATE EXTENSION btree_gin" in absent


@pytest.mark.parametrize(
    ("oldest_s", "still_s", "is_problem"),
    [(None, None, False), (10, None, False), (4000, 5, False), (4000, 500, True), (4000, None, True)],
)
def test_a_long_wait_is_a_problem_where_no_document_moves(
    oldest_s: float | None, still_s: float | None, *, is_problem: bool
) -> None:
    """A document behind a backlog is starved, not stuck."""
    found = waiting(oldest_s=oldest_s, still_s=still_s)
    assert bool(list(document_health.of_waiting(found))) == is_problem


def test_what_waits_is_said_by_lane() -> None:
    assert document_health.waiting_text(waiting(oldest_s=12.4, still_s=1)) == "3 of lane low, the oldest for 12 s"
    many = waiting(oldest_s=12.4, still_s=1, documents=document_health.COUNTED_MAX)
    assert document_health.waiting_text(many) == "10000 or more of lane low, the oldest for 12 s"
    assert document_health.waiting_text(waiting(oldest_s=None, still_s=None)) == "none waits"


def test_a_stuck_document_is_named_with_its_chunks_and_the_commands_that_help() -> None:
    found = StuckDocument(
        job_id=JOB, collection="emma", document="7", phase="embedding", chunks_done=3, chunks=9, still_s=1000
    )
    [problem] = document_health.of_stuck([found])
    assert problem.startswith("document emma/7 has been embedding, 3 of 9 chunks for 1000 s")
    assert f"`tidegate documents cancel {JOB}`" in problem


def test_failures_are_counted_by_stage_and_reason() -> None:
    [problem] = document_health.of_failures([Failures(stage="parse", reason="no_text", documents=2, newest_job=JOB)])
    assert problem.startswith("2 documents failed within an hour at parse: no_text")


def test_a_collection_that_is_built_anew_is_no_problem_but_told() -> None:
    found = building()
    assert document_health.building_text([found]) == "demo/emma from minilm to openai, 5 documents to do since 60 s"
    assert document_health.building_text([]) == "none is being re-embedded"
    assert list(document_health.of_building([found, building(failed=["7"])])) == []


def test_a_collection_that_failed_documents_hold_up_is_a_problem_with_its_ways_out() -> None:
    found = building(failed=["7", "8"], is_blocked=True)
    assert "5 documents to do, 2 of them failed, since 60 s" in document_health.building_text([found])
    [problem] = document_health.of_building([found])
    assert problem.startswith("demo/emma cannot change to openai: 2 documents failed (7, 8)")
    assert "`tidegate documents reembed emma --embedder openai --skip-failed`" in problem


def building(*, failed: Sequence[str] = (), is_blocked: bool = False) -> BuildingCollection:
    return BuildingCollection(
        tenant_id="demo",
        collection="emma",
        active="minilm",
        building="openai",
        age_s=60.0,
        documents_missing=5,
        documents_failed=len(failed),
        failed_documents=failed,
        is_blocked=is_blocked,
    )


def test_a_postgres_that_is_away_is_not_reachable() -> None:
    with pytest.raises(NotReachable, match="Postgres does not answer"):
        document_health.waiting("postgresql://127.0.0.1:1/x")
