"""The names of the queues, for the check of what is submitted: read from Postgres every few seconds."""

from collections.abc import Callable
from time import monotonic

from gateway.errors import StoreUnavailable
from gateway.jobs.store import JobStore
from schemas.jobs.types import QUEUES

FRESH_S = 2.0


class KnownQueues:
    """The queues that exist, as far as is known; while Postgres is away those that were there and the standard ones."""

    def __init__(self, store: JobStore, *, clock_s: Callable[[], float] = monotonic) -> None:
        """Know the standard queues."""
        self._store = store
        self._clock_s = clock_s
        self._names = frozenset(QUEUES)
        self._read_at_s = float("-inf")

    async def names(self) -> frozenset[str]:
        """Return the names, a few seconds old at most."""
        if self._clock_s() - self._read_at_s < FRESH_S:
            return self._names
        self._read_at_s = self._clock_s()  # before the read: whoever asks meanwhile need not read too
        try:
            self._names = await self._store.queue_names()
        except StoreUnavailable:
            self._names |= frozenset(QUEUES)
        return self._names

    def forget(self) -> None:
        """Read again for the next who asks: a queue was added."""
        self._read_at_s = float("-inf")
