"""What the consumer groups have passed."""

from processors.runs.retention.log import everything_passed
from processors.runs.retention.rules import CommittedFloors


class Climbing:
    """Groups that come one record further with each look."""

    def __init__(self, *, end: int) -> None:
        self.at, self.end = 0, end

    async def passed(self) -> CommittedFloors:
        self.at += 1
        return CommittedFloors(floors={0: self.at})

    async def ends(self) -> dict[int, int]:
        return {0: self.end}

    async def held_objects(self) -> frozenset[str]:
        return frozenset()


async def test_groups_are_waited_for_but_not_for_ever() -> None:
    waited: list[float] = []

    async def sleep(pause_s: float) -> None:
        waited.append(pause_s)

    assert await everything_passed(Climbing(end=5), sleep=sleep)
    assert len(waited) == 4
    assert not await everything_passed(Climbing(end=10_000), sleep=sleep)
    assert sum(waited) < 12
