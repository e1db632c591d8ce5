"""What the consumer groups have passed."""

from processors.runs.retention.log import everything_passed, groups_that_hold
from processors.runs.retention.rules import CommittedFloors
from schemas.archive.topics import ARCHIVE
from schemas.events.topics import EVENTS
from schemas.runs.topics import EVALUATION, PERSISTENCE, RUN_EVENTS


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


def test_an_archive_that_is_behind_holds_nothing() -> None:
    groups = [PERSISTENCE, EVENTS, EVALUATION.group("a"), ARCHIVE.group("run.events")]
    assert groups_that_hold(groups, RUN_EVENTS) == {PERSISTENCE, EVALUATION.group("a")}
