"""The bound on what is embedded and not stored."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from processors.documents.work.downstream import BOUND_S, COST_MIN, RATE_OVER_S, Downstream
from processors.runtime.errors import Transient


class Unstored:
    """The sessions of a worker, to each of which Postgres answers the cost of what is not stored."""

    def __init__(self) -> None:
        self.cost: float | None = 0.0  # None: Postgres is away

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[tuple["Unstored", None]]:
        if self.cost is None:
            raise Transient("Postgres is away")
        yield self, None

    @asynccontextmanager
    async def cursor(self) -> AsyncIterator["Unstored"]:
        yield self

    async def execute(self, _statement: str) -> None:
        """Nothing to send."""

    async def fetchone(self) -> tuple[float | None]:
        return (self.cost,)


class Stage:
    """What is seen downstream, at a time that a test sets."""

    def __init__(self) -> None:
        self.unstored, self.now_s = Unstored(), 1000.0
        writes: Any = self.unstored
        self.downstream = Downstream(writes, clock_s=lambda: self.now_s)

    async def look(self, unstored: float | None, *, passed: int = 0, after_s: float = 0.5) -> bool:
        """Look *after_s* seconds after the last time, so much passed meanwhile; return True if there is room."""
        self.now_s += after_s
        self.downstream.passed(passed)
        self.unstored.cost = unstored
        await self.downstream.look()
        return await self.has_room()

    async def has_room(self) -> bool:
        waiting = asyncio.create_task(self.downstream.room())
        for _ in range(3):
            await asyncio.sleep(0)
        if waiting.done():
            return True
        waiting.cancel()
        return False


async def test_before_the_first_look_there_is_room() -> None:
    assert await Stage().has_room()


@pytest.mark.parametrize(("unstored", "has_room"), [(0, True), (COST_MIN, True), (COST_MIN + 1, False)])
async def test_what_is_not_stored_has_a_bound(*, unstored: float, has_room: bool) -> None:
    assert await Stage().look(unstored) == has_room


async def test_the_bound_is_a_few_seconds_of_the_work_that_gets_on() -> None:
    stage = Stage()
    for _ in range(200):
        await stage.look(0, passed=500_000, after_s=0.5)
    bound = BOUND_S * 1_000_000
    assert await stage.look(0.99 * bound, passed=500_000)
    assert not await stage.look(1.01 * bound, passed=500_000)


async def test_the_bound_follows_the_rate_within_seconds() -> None:
    stage = Stage()
    await stage.look(0)
    for _ in range(int(RATE_OVER_S / 0.5)):
        await stage.look(0, passed=500_000)
    assert await stage.look(0.5 * BOUND_S * 1_000_000)
    for _ in range(200):
        await stage.look(0)
    assert await stage.look(COST_MIN)
    assert not await stage.look(COST_MIN + 1)


async def test_one_large_document_does_not_lift_the_bound_by_all_of_its_cost() -> None:
    """A second after the other, as the loop looks."""
    stage = Stage()
    await stage.look(0)
    await stage.look(0, passed=2_000_000)
    assert not await stage.look(2_000_001)


async def test_whoever_waits_goes_on_when_enough_is_stored() -> None:
    stage = Stage()
    await stage.look(COST_MIN + 1)
    waiting = asyncio.create_task(stage.downstream.room())
    assert await stage.look(COST_MIN)
    await waiting


async def test_while_postgres_is_away_it_stays_as_it_was() -> None:
    stage = Stage()
    await stage.look(COST_MIN + 1)
    with pytest.raises(Transient):
        await stage.look(None)
    assert not await stage.has_room()
