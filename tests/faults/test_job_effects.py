"""Effects in Postgres: committed once, by the attempt that holds the job."""

import asyncio
from pathlib import Path

import psycopg
import pytest
from psycopg import AsyncConnection

from processors.jobs.context import StaleAttempt, TaskContext
from processors.jobs.executor.claims import Claimed
from tests.support.attempts import OTHER, claim, lose, reclaim
from tests.support.jobs import Tables

EFFECT = "INSERT INTO audit_log (tenant_id, by, action, target) VALUES ('t', 'task', 'effect', 'x')"
EFFECTS = "SELECT count(*) AS effects FROM audit_log WHERE action = 'effect'"


def context_of(tables: Tables, held: Claimed) -> TaskContext:
    return TaskContext(
        job_id=str(held.job_id),
        attempt_id=str(held.attempt_id),
        attempt=1,
        failed_attempts=0,
        type="noop",
        tenant="demo",
        user_id=None,
        folder=Path("/nowhere"),
        deadline_s=float("inf"),
        dsn=tables.dsn,
        report=lambda _fraction, _message: None,
        check=lambda: None,
    )


def effect_of(tables: Tables, held: Claimed) -> None:
    """Insert a row as a task does."""
    with psycopg.connect(tables.dsn) as session:
        session.execute(EFFECT)
        context_of(tables, held).commit(session)


def test_the_effect_of_an_attempt_is_committed_while_it_holds_its_job(tables: Tables) -> None:
    tables.insert("noop")
    effect_of(tables, claim(tables)[0])
    assert tables.rows(EFFECTS) == [{"effects": 1}]


def test_a_stale_attempt_commits_nothing(tables: Tables) -> None:
    tables.insert("noop")
    first = claim(tables)[0]
    lose(tables)
    reclaim(tables)
    second = claim(tables, OTHER)[0]
    with pytest.raises(StaleAttempt):
        effect_of(tables, first)
    effect_of(tables, second)
    assert tables.rows(EFFECTS) == [{"effects": 1}]


def test_a_stale_attempt_of_an_async_task_commits_nothing(tables: Tables) -> None:
    tables.insert("noop")
    first = claim(tables)[0]
    tables.rows("UPDATE job_running SET attempt_id = gen_random_uuid()")

    async def effect() -> None:
        session = await AsyncConnection.connect(tables.dsn)
        async with session:
            await session.execute(EFFECT)
            await context_of(tables, first).commit_async(session)

    with pytest.raises(StaleAttempt):
        asyncio.run(effect())
    assert tables.rows(EFFECTS) == [{"effects": 0}]


def test_while_an_effect_is_committed_the_job_is_not_taken_back(tables: Tables) -> None:
    tables.insert("noop")
    held = claim(tables)[0]
    lose(tables)
    with psycopg.connect(tables.dsn) as session:
        session.execute("SELECT FROM job_running WHERE attempt_id = %s FOR UPDATE", [held.attempt_id])
        assert reclaim(tables) == 0
