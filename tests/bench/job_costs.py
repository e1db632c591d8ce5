"""The costs of a claim and of the reads behind lists and health: median milliseconds of each, a line each."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from statistics import median
from time import perf_counter
from uuid import uuid4

from gateway.jobs.postgres import PostgresJobStore
from gateway.jobs.store import JobFilter, JobListing
from gateway.postgres.pool import PostgresReads
from processors.jobs.executor.claims import Claims
from processors.jobs.executor.lease import Lease
from processors.postgres.writes import PostgresWrites
from schemas.jobs.states import JobStatus
from tests.support.tasks import TYPES

TIMES = 100
WARM_UP = 20
TENANT = "demo"


async def measure(executor_dsn: str, reader_dsn: str) -> None:
    """Print what each costs."""
    async with (
        PostgresWrites(executor_dsn, connections_max=2, application="bench") as writes,
        PostgresReads(reader_dsn) as reads,
    ):
        store, executor_id = PostgresJobStore(reads), uuid4()
        row = {"host": "bench", "pid": 0, "version": "0", "queues": ["default"], "types": [], "slots": 4}
        await Lease(writes, fence_s=20.0, executor_id=executor_id, **row).renew(busy=0, is_draining=False)
        types = {each.name: each for each in TYPES}
        claims = Claims(writes, executor_id=executor_id, queues=["default", "ari_analysis"], types=types)

        async def claim() -> float:
            began_s = perf_counter()
            claimed = await claims.claim(1, takes_suspect=False)
            seconds = perf_counter() - began_s
            await claims.give_back(claimed)
            assert len(claimed) == 1
            return seconds

        async def timed(work: Callable[[], Awaitable[object]]) -> float:
            began_s = perf_counter()
            await work()
            return perf_counter() - began_s

        def listing(order: JobListing, **admitted: JobStatus) -> Callable[[], Awaitable[float]]:
            read = JobFilter(**admitted)
            return lambda: timed(lambda: store.jobs(TENANT, order, read, after=None, skip=0, limit=50))

        async def health() -> None:
            await store.queues(None)
            await store.executors()

        for name, work in {
            "claim": claim,
            "list": listing(JobListing.NEWEST),
            "failed": listing(JobListing.FAILED),
            "pending": listing(JobListing.PENDING),
            "health": lambda: timed(health),
        }.items():
            taken = [await work() for _ in range(WARM_UP + TIMES)][WARM_UP:]
            print(name, median(taken) * 1000)


if __name__ == "__main__":
    asyncio.run(measure(*sys.argv[1:]))
