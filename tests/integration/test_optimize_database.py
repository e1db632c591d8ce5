"""The task `maintenance/optimize-database` on a Postgres with tables that need it."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from deploy.local import postgres
from processors.jobs.context import Completed, Fail, TaskContext
from processors.jobs.tasks import optimize_database
from processors.jobs.tasks.optimize_database import HEAVY_LOCK, INDEX_BYTES_MIN
from schemas.jobs.builtin import OptimizeLevel, OptimizeParameters
from tests.support.jobs import PASSWORD, JobServer, Tables

ROWS = 400_000
LIVE = 130_000  # about: a third is left


@pytest.fixture
def worn(tables: Tables) -> Iterator[Tables]:
    """Yield tables with one among them of which two thirds were deleted: its rows are dead, its indexes hollow."""
    for statement in (
        "CREATE TABLE worn (number integer, words text) WITH (autovacuum_enabled = false)",
        f"INSERT INTO worn SELECT n, md5(n::text) FROM generate_series(1, {ROWS}) AS n",
        "CREATE INDEX worn_words ON worn (words)",
        "CREATE INDEX worn_small ON worn (number) WHERE number < 10",
        "GRANT MAINTAIN ON worn TO tidegate_jobs",
        "DELETE FROM worn WHERE number % 3 <> 0",
    ):
        tables.rows(statement)
    yield tables
    tables.rows("DROP TABLE worn")


class Progress:
    """The progress that a task reported."""

    def __init__(self) -> None:
        self.fractions: list[float | None] = []

    def report(self, fraction: float | None, _message: str | None) -> None:
        self.fractions.append(fraction)


def context(dsn: str, progress: Progress | None = None) -> TaskContext:
    return TaskContext(
        job_id=str(uuid4()),
        attempt_id=str(uuid4()),
        attempt=1,
        failed_attempts=0,
        type="maintenance/optimize-database",
        tenant="demo",
        user_id=None,
        folder=Path("/nowhere"),
        deadline_s=monotonic() + 60,
        dsn=dsn,
        report=(progress or Progress()).report,
        check=lambda: None,
    )


def optimized(dsn: str, level: OptimizeLevel) -> dict[str, Any]:
    done = optimize_database.run(context(dsn), OptimizeParameters(level=level))
    assert isinstance(done, Completed), done
    return dict(done.result)


def report_of(result: dict[str, Any], table: str = "worn") -> dict[str, Any]:
    return next(each for each in result["reports"] if each["table"] == table)


def test_light_analyzes_and_leaves_dead_rows(worn: Tables) -> None:
    report = report_of(optimized(worn.dsn, OptimizeLevel.LIGHT))
    assert report["last_analyze"] is not None
    assert report["last_vacuum"] is None
    assert report["after"]["dead_rows"] > LIVE


def test_standard_reports_what_vacuum_removed(worn: Tables) -> None:
    progress = Progress()
    parameters = OptimizeParameters(level=OptimizeLevel.STANDARD)
    done = optimize_database.run(context(worn.dsn, progress), parameters)
    assert isinstance(done, Completed)
    report = report_of(done.result)
    [measured] = worn.rows("SELECT pg_total_relation_size('worn') AS bytes, (SELECT count(*) FROM worn) AS live")
    assert report["before"]["dead_rows"] > LIVE
    assert report["after"] == {"bytes": measured["bytes"], "live_rows": measured["live"], "dead_rows": 0}
    assert (report["skipped"], report["dead_rows_pinned_by"]) == (None, None)
    assert report["last_vacuum"] is not None
    assert done.result["indexes"] == []
    assert done.summary["tables"] == len(done.result["reports"]) == len(progress.fractions) - 1
    assert (progress.fractions[0], progress.fractions[-1]) == (0.0, 1.0)


def test_heavy_builds_hollow_indexes_again_and_no_others(worn: Tables) -> None:
    optimized(worn.dsn, OptimizeLevel.STANDARD)
    first = optimized(worn.dsn, OptimizeLevel.HEAVY)
    [index] = [each for each in first["indexes"] if each["table"] == "worn"]
    assert (index["index"], index["skipped"]) == ("worn_words", None)
    assert index["bloat_before"] > 0.5
    [measured] = worn.rows("SELECT pg_relation_size('worn_words') AS bytes")
    assert index["bytes_after"] == measured["bytes"] < index["bytes_before"] / 2
    assert first["indexes_rebuilt"] == 1
    assert report_of(first)["after"]["bytes"] < report_of(first)["before"]["bytes"]
    second = optimized(worn.dsn, OptimizeLevel.HEAVY)
    assert {each["index"]: each["skipped"] for each in second["indexes"]} in (
        {},  # it has become too small
        {"worn_words": "at most 30% bloated"},
    )
    assert (measured["bytes"] > INDEX_BYTES_MIN) == bool(second["indexes"])


def test_a_snapshot_that_keeps_dead_rows_is_named(worn: Tables) -> None:
    with closing(psycopg.connect(worn.server.owner, application_name="old report")) as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT FROM jobs LIMIT 1")
        worn.rows("DELETE FROM worn WHERE number % 2 = 0")
        pid = holder.info.backend_pid
        optimized(worn.dsn, OptimizeLevel.STANDARD)  # what was dead before the snapshot goes
        report = report_of(optimized(worn.dsn, OptimizeLevel.STANDARD))
    pinned_by = report["dead_rows_pinned_by"]
    assert report["before"]["dead_rows"] == report["after"]["dead_rows"] > 0
    assert (pinned_by["kind"], pinned_by["pid"], pinned_by["application"]) == ("session", pid, "old report")
    assert pinned_by["age_transactions"] >= 1


def test_a_locked_table_is_left_out_at_once(worn: Tables) -> None:
    with psycopg.connect(worn.server.owner) as holder:
        holder.execute("LOCK TABLE worn IN SHARE UPDATE EXCLUSIVE MODE")
        report = report_of(optimized(worn.dsn, OptimizeLevel.STANDARD))
    assert "lock not available" in report["skipped"]
    assert report["after"]["dead_rows"] > LIVE


def test_a_table_that_is_being_changed_is_left_out_and_the_others_are_done(worn: Tables) -> None:
    with psycopg.connect(worn.server.owner) as holder:
        holder.execute("LOCK TABLE worn IN ACCESS EXCLUSIVE MODE")
        result = optimized(worn.dsn, OptimizeLevel.STANDARD)
    assert "lock timeout" in report_of(result)["skipped"]
    assert report_of(result)["before"]["bytes"] is None
    assert [each["table"] for each in result["reports"] if each["skipped"]] == ["worn"]


def test_an_index_that_cannot_be_built_in_time_leaves_nothing_behind(worn: Tables) -> None:
    with psycopg.connect(worn.server.owner) as holder:
        optimized(worn.dsn, OptimizeLevel.STANDARD)
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT FROM worn LIMIT 1")  # its snapshot, and its lock, are what the new index waits for
        result = optimized(worn.dsn, OptimizeLevel.HEAVY)
    [index] = [each for each in result["indexes"] if each["table"] == "worn"]
    assert "lock timeout" in index["skipped"]
    optimized(worn.dsn, OptimizeLevel.HEAVY)
    assert worn.rows("SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid") == []


def test_a_second_heavy_one_is_refused(tables: Tables) -> None:
    with psycopg.connect(tables.server.owner) as other:
        other.execute("SELECT pg_advisory_lock(hashtext(%s))", [HEAVY_LOCK])
        done = optimize_database.run(context(tables.dsn), OptimizeParameters(level=OptimizeLevel.HEAVY))
        optimized(tables.dsn, OptimizeLevel.STANDARD)
    assert isinstance(done, Fail)
    assert "another heavy optimization runs" in done.why


def test_a_role_without_the_right_is_told_which(tables: Tables, job_server: JobServer) -> None:
    postgres.create_login(job_server.owner, user="tidegate_reader", password=PASSWORD, member_of="tidegate_read")
    dsn = postgres.dsn(port=job_server.port, user="tidegate_reader", password=PASSWORD)
    done = optimize_database.run(context(dsn), OptimizeParameters())
    assert isinstance(done, Fail)
    assert "GRANT MAINTAIN ON ALL TABLES IN SCHEMA public TO tidegate_jobs" in done.why
    tables.rows("CREATE TABLE foreign_one ()")
    try:
        report = report_of(optimized(tables.dsn, OptimizeLevel.LIGHT), "foreign_one")
    finally:
        tables.rows("DROP TABLE foreign_one")
    assert report["skipped"] is None or "GRANT MAINTAIN ON foreign_one TO tidegate_jobs" in report["skipped"]


def test_without_pgstattuple_no_index_is_built_again_and_the_report_says_so(worn: Tables) -> None:
    worn.rows("DROP EXTENSION pgstattuple")
    try:
        result = optimized(worn.dsn, OptimizeLevel.HEAVY)
    finally:
        worn.rows("CREATE EXTENSION pgstattuple")
        worn.rows("GRANT EXECUTE ON FUNCTION pgstatindex(regclass) TO tidegate_jobs")
    assert result["indexes"] == []
    assert any("run CREATE EXTENSION pgstattuple" in each for each in result["not_done"])


def test_no_more_time_is_taken_than_the_task_has(worn: Tables) -> None:
    hurried = replace(context(worn.dsn), deadline_s=monotonic() - 0.999)
    with pytest.raises(psycopg.errors.QueryCanceled):
        optimize_database.run(hurried, OptimizeParameters())
