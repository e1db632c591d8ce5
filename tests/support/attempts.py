"""Attempts without an executor: claimed, ended and lost by the statements that executors use."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID, uuid4

import psycopg
import pytest

from processors.jobs.executor import endings as endings_module
from processors.jobs.executor.claims import Claimed, Claims
from processors.jobs.executor.endings import END, AttemptEnd, EndingWriter
from processors.jobs.executor.housekeeping import LOST_ROWS_MAX, RECLAIM
from processors.postgres.writes import PostgresWrites
from schemas.jobs.states import AttemptOutcome, JobStatus
from schemas.jobs.types import TaskType
from tests.support.jobs import Tables

NOOP = TaskType(name="noop", function="tests.support.tasks:noop")
EXECUTOR, OTHER = uuid4(), uuid4()
LEASE_S = 30


def claim(
    tables: Tables,
    executor_id: UUID = EXECUTOR,
    count: int = 1,
    *,
    queues: Sequence[str] = ("default",),
    times: int = 1,
) -> list[Claimed]:
    """Claim jobs as an executor does, which has a row with a fresh lease."""
    tables.rows(
        "INSERT INTO executors (executor_id, host, pid, version, queues, types, slots) "
        "VALUES (%s, 'here', 1, '1', '{default}', '{noop}', 1) "
        "ON CONFLICT (executor_id) DO UPDATE SET beat_at = clock_timestamp()",
        executor_id,
    )

    async def claimed() -> list[Claimed]:
        async with writes(tables) as found:
            claims = Claims(found, executor_id=executor_id, queues=list(queues), types={"noop": NOOP})
            return [each for _ in range(times) for each in await claims.claim(count, takes_suspect=True)]

    return asyncio.run(claimed())


def writes(tables: Tables) -> PostgresWrites:
    return PostgresWrites(tables.dsn, connections_max=2, application="test")


def end(tables: Tables, *ends: AttemptEnd, statement: str = END) -> int:
    """Store ends of attempts as an executor does; return how many were stale."""
    stale = [0]

    async def stored() -> None:
        async with writes(tables) as found:
            writer = EndingWriter(
                found,
                executor_id=EXECUTOR,
                stale=stale.append,
                failures=pytest.fail,
            )
            task = asyncio.create_task(writer.run())
            for each in ends:
                writer.put(each)
            while writer.pending:
                assert not task.done(), task.exception()
                await asyncio.sleep(0.01)
            task.cancel()

    with mutated(statement):
        asyncio.run(stored())
    return sum(stale)


@contextmanager
def mutated(statement: str) -> Iterator[None]:
    """Store ends by another statement."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endings_module, "END", statement)
        yield


def completed(claimed: Claimed, result: str = "1") -> AttemptEnd:
    return AttemptEnd(claimed=claimed, outcome=AttemptOutcome.COMPLETED, next_status=JobStatus.COMPLETED, result=result)


def reclaim(tables: Tables, statement: str = RECLAIM) -> int:
    """Take back the jobs of executors that are gone; return how many."""
    with psycopg.connect(tables.dsn) as session:
        row = session.execute(statement, {"lease_s": LEASE_S, "limit": LOST_ROWS_MAX}).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return int(row[0])


def lose(tables: Tables, executor_id: UUID = EXECUTOR) -> None:
    """Let the lease of an executor be over."""
    tables.rows("UPDATE executors SET beat_at = beat_at - interval '1 hour' WHERE executor_id = %s", executor_id)
