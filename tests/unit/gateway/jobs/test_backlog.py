"""The bound on unfinished jobs: counted at times, and what this gateway adds in between."""

from dataclasses import dataclass

import pytest

from gateway.errors import BacklogFull, StoreUnavailable
from gateway.jobs.backlog import Backlog
from gateway.jobs.known_queues import KnownQueues
from gateway.kafka.followers import GroupFollower
from schemas.jobs.topics import INTAKE, JOB_COMMANDS
from schemas.jobs.types import QUEUES
from schemas.kafka.places import RecordPlace
from tests.support.fakes import MemoryCommitted, MemoryJobStore
from tests.support.job_views import NOW, queue_view


@dataclass
class Clock:
    """A clock that the test turns."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


def place(offset: int) -> RecordPlace:
    return RecordPlace(JOB_COMMANDS.name, 0, offset)


async def test_own_jobs_count_until_intake_is_past_them() -> None:
    clock, store = Clock(), MemoryJobStore(unfinished_count=7)
    committed = MemoryCommitted({0: 1}, topic=JOB_COMMANDS.name)
    async with GroupFollower(INTAKE, committed, clock=lambda: NOW) as follower:
        backlog = Backlog(store, lambda: follower, unfinished_max=10, clock_s=clock)
        await backlog.check("a", 3)
        with pytest.raises(BacklogFull):
            await backlog.check("a", 4)
        backlog.add("a", [place(0), place(1)])
        await backlog.check("a", 1)
        with pytest.raises(BacklogFull):
            await backlog.check("a", 2)

        store.unfinished_count = 8  # the first of them is stored, and the group past it
        clock.now_s += 1
        await backlog.check("a", 1)
        with pytest.raises(BacklogFull):
            await backlog.check("a", 2)
        await backlog.check("b", 2)

        store.failure = StoreUnavailable("away")
        clock.now_s += 1
        with pytest.raises(BacklogFull):
            await backlog.check("a", 2)


async def test_no_bound_asks_nobody() -> None:
    store = MemoryJobStore(failure=AssertionError("not asked"))
    async with GroupFollower(INTAKE, MemoryCommitted(topic=JOB_COMMANDS.name), clock=lambda: NOW) as follower:
        await Backlog(store, lambda: follower, unfinished_max=0).check("a", 10**9)


async def test_queues_are_known_while_postgres_is_away() -> None:
    clock, store = Clock(), MemoryJobStore(failure=StoreUnavailable("away"))
    known = KnownQueues(store, clock_s=clock)
    assert await known.names() == frozenset(QUEUES)
    store.failure, store.queue_views = None, [queue_view("mine")]
    assert "mine" not in await known.names()
    clock.now_s += 2
    assert "mine" in await known.names()
    store.failure = StoreUnavailable("away")
    clock.now_s += 2
    assert {"mine", *QUEUES} <= await known.names()
    store.failure, store.queue_views = None, []
    known.forget()
    assert "mine" not in await known.names()
