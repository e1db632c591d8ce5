"""Many together or one alone, and nobody waits for what is free."""

import asyncio
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from processors.documents.work.isolation import Isolation


@dataclass(eq=False)
class Holder:
    """One who wants the lock, and holds it until a test ends it."""

    isolation: Isolation
    alone: bool
    is_holding: bool = False
    end: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        async with self.isolation.held(alone=self.alone):
            self.is_holding = True
            try:
                await self.end.wait()
            finally:
                self.is_holding = False


class Rooms:
    """A lock, and holders that come, end and give up when a test has it so."""

    def __init__(self) -> None:
        self.isolation = Isolation()
        self.came: list[Holder] = []

    async def come(self, *, alone: bool = False) -> Holder:
        holder = Holder(self.isolation, alone)
        self.came.append(holder)
        await settle()
        return holder

    async def end(self, holder: Holder) -> None:
        holder.end.set()
        await settle()

    async def cancel(self, holder: Holder) -> None:
        holder.task.cancel()
        await settle()

    def holding(self) -> list[Holder]:
        return [each for each in self.came if each.is_holding]

    def waiting(self) -> list[Holder]:
        return [each for each in self.came if not each.is_holding and not each.task.done()]

    async def close(self) -> None:
        """End all who hold it, until nobody is left; whoever waits comes to hold it."""
        for _ in range(len(self.came) + 1):
            for holder in self.holding():
                await self.end(holder)
        assert not self.waiting()


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_many_hold_it_together() -> None:
    rooms = Rooms()
    came = [await rooms.come() for _ in range(3)]
    assert rooms.holding() == came
    await rooms.close()


async def test_one_alone_waits_until_all_others_have_ended() -> None:
    rooms = Rooms()
    first, second, alone = await rooms.come(), await rooms.come(), await rooms.come(alone=True)
    await rooms.end(first)
    assert rooms.holding() == [second]
    await rooms.end(second)
    assert rooms.holding() == [alone]
    await rooms.close()


async def test_while_one_holds_it_alone_nobody_else_does() -> None:
    rooms = Rooms()
    alone = await rooms.come(alone=True)
    another, together = await rooms.come(alone=True), await rooms.come()
    assert rooms.holding() == [alone]
    await rooms.end(alone)
    assert rooms.holding() == [another]
    await rooms.end(another)
    assert rooms.holding() == [together]
    await rooms.close()


async def test_who_wants_it_alone_goes_before_those_who_come_later() -> None:
    """A slice after the other would keep it for ever."""
    rooms = Rooms()
    first, alone, later = await rooms.come(), await rooms.come(alone=True), await rooms.come()
    assert rooms.holding() == [first]
    await rooms.end(first)
    assert rooms.holding() == [alone]
    await rooms.end(alone)
    assert rooms.holding() == [later]
    await rooms.close()


async def test_those_behind_one_who_gives_up_go_on() -> None:
    rooms = Rooms()
    first, alone, later = await rooms.come(), await rooms.come(alone=True), await rooms.come()
    await rooms.cancel(alone)
    assert rooms.holding() == [first, later]
    await rooms.close()


async def test_one_who_gives_up_behind_another_takes_nothing() -> None:
    rooms = Rooms()
    alone, gives_up, together = await rooms.come(alone=True), await rooms.come(alone=True), await rooms.come()
    await rooms.cancel(gives_up)
    assert rooms.holding() == [alone]
    await rooms.end(alone)
    assert rooms.holding() == [together]
    await rooms.close()


async def test_one_who_gives_up_in_the_moment_of_a_wake_up_takes_nothing() -> None:
    rooms = Rooms()
    first, alone, later = await rooms.come(), await rooms.come(alone=True), await rooms.come()
    first.end.set()
    alone.task.cancel()
    await settle()
    assert rooms.holding() == [later]
    await rooms.close()


async def test_work_that_is_cancelled_lets_it_go() -> None:
    for alone in (True, False):
        rooms = Rooms()
        holder, waiting = await rooms.come(alone=alone), await rooms.come(alone=True)
        await rooms.cancel(holder)
        assert rooms.holding() == [waiting]
        await rooms.close()


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["together", "alone", "end", "cancel", "settle"]), st.integers(0, 9)), max_size=60
)


@given(ACTIONS)
def test_whatever_happens_nobody_waits_for_what_is_free(actions: list[tuple[str, int]]) -> None:
    asyncio.run(interleaved(actions))


async def interleaved(actions: list[tuple[str, int]]) -> None:
    """Do *actions*, some of them in one moment, and check between."""
    rooms = Rooms()
    for action, subject in [*actions, ("settle", 0)]:
        if action in {"together", "alone"}:
            rooms.came.append(Holder(rooms.isolation, action == "alone"))
        elif action == "settle":
            await settle()
            holding, waiting = rooms.holding(), rooms.waiting()
            assert len(holding) <= 1 or not any(each.alone for each in holding)
            assert holding or not waiting
            assert any(each.alone for each in [*holding, *waiting]) or not waiting
        elif rooms.came:
            holder = rooms.came[-1 - subject % len(rooms.came)]
            if action == "end":
                holder.end.set()
            else:
                holder.task.cancel()
    await rooms.close()
