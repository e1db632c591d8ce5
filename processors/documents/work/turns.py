"""
The order in which lanes get on: a fair queue by weights, in cost (deficit round robin).

Each round gives every lane a credit of `QUANTUM_COST` times its weight. A lane is served while its credit is not below
0, the heaviest first, and pays the cost of each turn, even one that is larger than what it has: it then goes without
until later rounds have made up for it. So while lanes have work waiting, their shares of the cost are as their weights.
What a lane does not use, the others get: a round begins as soon as no lane with work has credit. An idle lane saves up
nothing, but its debts are paid as others get on, so the first of its work is next when it comes.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

from schemas.documents.states import LANE_WEIGHTS, Lane

QUANTUM_COST = 1_000  # characters: about a chunk; small, so that no lane waits long for its part of a round


@dataclass(frozen=True, slots=True)
class _Waiter:
    cost: int
    since_s: float


@dataclass(slots=True)
class _Queue:
    """One lane: those who wait, in their order, and its credit."""

    weight: int
    credit: int = 0  # of cost; below 0 a turn is being paid off
    # Ordered, so that one who is cancelled leaves from the middle in no time.
    waiting: OrderedDict[asyncio.Future[None], _Waiter] = field(default_factory=OrderedDict)

    def rounds_needed(self) -> int:
        """Return after how many rounds the credit is not below 0."""
        return -(self.credit // (self.weight * QUANTUM_COST)) if self.credit < 0 else 0

    def add_rounds(self, rounds: int) -> None:
        """Give the credit of so many rounds; an idle lane gets only what its debts need."""
        self.credit += rounds * self.weight * QUANTUM_COST
        self.forget_savings()

    def pay(self, cost: int) -> None:
        """Take the cost of a turn from the credit."""
        self.credit -= cost
        self.forget_savings()

    def give_back(self, cost: int) -> None:
        """Give back the cost of a turn that was not used; rounds since may have made up for it already."""
        self.credit = min(self.credit + cost, self.weight * QUANTUM_COST)
        self.forget_savings()

    def forget_savings(self) -> None:
        """Take the credit of an idle lane, but not its debts."""
        if not self.waiting:
            self.credit = min(0, self.credit)


class FairTurns:
    """
    Turns at work that *slots* can do at once; belongs to one event loop.

    Those who wait are as many as callers let in, such as one document of each partition of a topic. A turn takes the
    same time however many they are. A lane has its share as long as somebody waits in it whenever a turn ends: it needs
    more callers than there are slots.
    """

    def __init__(
        self, slots: int, weights: Mapping[Lane, int] = LANE_WEIGHTS, *, clock_s: Callable[[], float] = monotonic
    ) -> None:
        """Start with all *slots* free and no credit."""
        if slots < 1 or any(weight < 1 for weight in weights.values()):
            raise ValueError(f"slots and weights must be at least 1: {slots}, {dict(weights)}")
        self._free = slots
        self._slots = slots
        self._clock_s = clock_s
        heaviest_first = sorted(weights.items(), key=lambda each: -each[1])
        self._queues = {lane: _Queue(weight) for lane, weight in heaviest_first}

    @property
    def in_progress(self) -> int:
        """Return how many turns are taken."""
        return self._slots - self._free

    def waiting(self, lane: Lane) -> int:
        """Return how many wait in *lane*."""
        return len(self._queues[lane].waiting)

    def oldest_wait_s(self, lane: Lane) -> float:
        """Return for how long the first in *lane* has waited; 0.0: nobody waits."""
        first = next(iter(self._queues[lane].waiting.values()), None)
        return 0.0 if first is None else self._clock_s() - first.since_s

    @asynccontextmanager
    async def turn(self, lane: Lane, cost: int) -> AsyncIterator[None]:
        """
        Wait for a turn in *lane* at work of *cost*, in characters, and hold it.

        A turn without characters costs one. Whoever is cancelled while waiting takes nothing. The wait has no bound of
        its own: every turn in progress ends, so every lane comes to its share.
        """
        await self._take(self._queues[lane], max(1, cost))
        try:
            yield
        finally:
            self._free += 1
            self._grant()

    async def _take(self, queue: _Queue, cost: int) -> None:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.waiting[granted] = _Waiter(cost, self._clock_s())
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                queue.waiting.pop(granted, None)
            else:  # the turn was given in the same moment, and is not used
                queue.give_back(cost)
                self._free += 1
            self._grant()
            raise

    def _grant(self) -> None:
        while self._free and (queue := self._next()) is not None:
            granted, waiter = queue.waiting.popitem(last=False)
            if granted.cancelled():  # its task has not run since
                continue
            self._free -= 1
            queue.pay(waiter.cost)
            granted.set_result(None)

    def _next(self) -> _Queue | None:
        """Return the lane that is next, after as many rounds as it takes that one has credit; None: nobody waits."""
        busy = [queue for queue in self._queues.values() if queue.waiting]
        if not busy:
            return None
        if rounds := min(queue.rounds_needed() for queue in busy):
            for queue in self._queues.values():
                queue.add_rounds(rounds)
        return next(queue for queue in busy if queue.credit >= 0)
