"""
A bound on what each tenant has in the log and in tables that is not finished, such as jobs.

Counted in Postgres once a second at most. What this gateway has put into the log since counts as well, until its group
has committed past it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from gateway.errors import BacklogFull, LogUnavailable, StoreUnavailable
from gateway.kafka.followers import GroupFollower
from schemas.kafka.places import RecordPlace

COUNT_EVERY_S = 1.0


class Unfinished(Protocol):
    """A count in Postgres."""

    async def __call__(self, tenant: str, *, count_max: int) -> int:
        """Return how many of a tenant are not finished, up to *count_max*. Raises StoreUnavailable."""


@dataclass(slots=True)
class _Count:
    """The unfinished jobs, or the like, of one tenant."""

    stored: int = 0
    counted_at_s: float = float("-inf")
    own: deque[RecordPlace] = field(default_factory=deque)  # in the log, and not seen in the count; within the bound


class Backlog:
    """The bound, and the counts of all tenants that submit here."""

    def __init__(
        self,
        count: Unfinished,
        follower: Callable[[], GroupFollower],
        *,
        nouns: str,
        unfinished_max: int,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        """
        Count *nouns*, such as "jobs", by *count*; *follower* knows how far the group is that makes rows of them. An
        *unfinished_max* of 0 is no bound.
        """
        self._count = count
        self._nouns = nouns
        self._follower = follower
        self._unfinished_max = unfinished_max
        self._clock_s = clock_s
        self._counts: dict[str, _Count] = {}  # by tenant: as many as the credentials have

    async def check(self, tenant: str, more: int) -> None:
        """
        Let pass so many *more*.

        Raises:
            BacklogFull: the tenant would have too many. Nothing was written; answer 429.
        """
        if not self._unfinished_max:
            return
        count = self._counts.setdefault(tenant, _Count())
        if self._clock_s() - count.counted_at_s >= COUNT_EVERY_S:
            await self._recount(tenant, count)
        unfinished = count.stored + len(count.own)
        if unfinished + more > self._unfinished_max:
            raise BacklogFull(
                f"{unfinished} {self._nouns} are not finished, of {self._unfinished_max} that the tenant may have"
            )

    def add(self, tenant: str, places: Iterable[RecordPlace]) -> None:
        """Count those that are in the log."""
        if self._unfinished_max:
            self._counts.setdefault(tenant, _Count()).own.extend(places)

    async def _recount(self, tenant: str, count: _Count) -> None:
        count.counted_at_s = self._clock_s()  # before the read: whoever asks meanwhile need not read too
        committed = self._committed()
        try:
            count.stored = await self._count(tenant, count_max=self._unfinished_max)
        except StoreUnavailable:
            return  # the last count goes on
        count.own = deque(place for place in count.own if committed.get(place.partition, 0) <= place.offset)

    def _committed(self) -> Mapping[int, int]:
        try:
            return {partition: each.committed or 0 for partition, each in self._follower().progress().items()}
        except LogUnavailable:
            return {}
