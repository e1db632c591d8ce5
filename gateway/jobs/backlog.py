"""
A bound on the unfinished jobs of each tenant.

Counted in Postgres once a second at most. What this gateway has put into the log since counts as well, until intake has
committed past it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic

from gateway.errors import BacklogFull, LogUnavailable, StoreUnavailable
from gateway.jobs.store import JobStore
from gateway.kafka.followers import GroupFollower
from schemas.kafka.places import RecordPlace

COUNT_EVERY_S = 1.0


@dataclass(slots=True)
class _Count:
    """The unfinished jobs of one tenant."""

    stored: int = 0
    counted_at_s: float = float("-inf")
    own: deque[RecordPlace] = field(default_factory=deque)  # in the log, and not seen in the count; within the bound


class Backlog:
    """The bound, and the counts of all tenants that submit here."""

    def __init__(
        self,
        store: JobStore,
        follower: Callable[[], GroupFollower],
        *,
        unfinished_max: int,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        """Count by *store*; *follower* knows how far intake is. An *unfinished_max* of 0 is no bound."""
        self._store = store
        self._follower = follower
        self._unfinished_max = unfinished_max
        self._clock_s = clock_s
        self._counts: dict[str, _Count] = {}  # by tenant: as many as the credentials have

    async def check(self, tenant: str, jobs: int) -> None:
        """
        Let pass so many jobs more.

        Raises:
            BacklogFull: the tenant would have too many. Nothing was written; answer 429.
        """
        if not self._unfinished_max:
            return
        count = self._counts.setdefault(tenant, _Count())
        if self._clock_s() - count.counted_at_s >= COUNT_EVERY_S:
            await self._recount(tenant, count)
        unfinished = count.stored + len(count.own)
        if unfinished + jobs > self._unfinished_max:
            raise BacklogFull(f"{unfinished} jobs are not finished, of {self._unfinished_max} that the tenant may have")

    def add(self, tenant: str, places: Iterable[RecordPlace]) -> None:
        """Count jobs that are in the log."""
        if self._unfinished_max:
            self._counts.setdefault(tenant, _Count()).own.extend(places)

    async def _recount(self, tenant: str, count: _Count) -> None:
        count.counted_at_s = self._clock_s()  # before the read: whoever asks meanwhile need not read too
        committed = self._committed()
        try:
            count.stored = await self._store.unfinished(tenant, count_max=self._unfinished_max)
        except StoreUnavailable:
            return  # the last count goes on
        count.own = deque(place for place in count.own if committed.get(place.partition, 0) <= place.offset)

    def _committed(self) -> Mapping[int, int]:
        try:
            return {partition: each.committed or 0 for partition, each in self._follower().progress().items()}
        except LogUnavailable:
            return {}
