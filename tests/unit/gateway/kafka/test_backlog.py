"""The bound on unfinished jobs: counted at times, and what this gateway adds in between."""

from dataclasses import dataclass

import pytest

from gateway.errors import BacklogFull, StoreUnavailable
from gateway.kafka.backlog import Backlog
from gateway.kafka.followers import GroupFollower
from schemas.jobs.topics import INTAKE, JOB_COMMANDS
from schemas.kafka.places import RecordPlace
from tests.support.fakes import MemoryCommitted, MemoryJobStore
from tests.support.job_views import NOW


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
        backlog = Backlog(store.unfinished, lambda: follower, nouns="jobs", unfinished_max=10, clock_s=clock)
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
        await Backlog(store.unfinished, lambda: follower, nouns="jobs", unfinished_max=0).check("a", 10**9)
