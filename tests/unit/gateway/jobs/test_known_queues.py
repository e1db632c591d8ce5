"""The names of the queues that are known, while Postgres is there and while it is away."""

from dataclasses import dataclass

from gateway.errors import StoreUnavailable
from gateway.jobs.known_queues import KnownQueues
from schemas.jobs.types import QUEUES
from tests.support.fakes import MemoryJobStore
from tests.support.job_views import queue_view


@dataclass
class Clock:
    """A clock that the test turns."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


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
