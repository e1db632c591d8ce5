"""A group's partitions whose log was cut off under it: they stop, and go on from where an operator accepts the log."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from processors.runtime.batch import Batch, Cut, RawRecord
from processors.runtime.continuity import Continuity
from processors.runtime.errors import LogRewritten, Transient, Unsettled
from processors.runtime.health import Health
from schemas.errors import Reason
from schemas.kafka.places import Partition
from schemas.kafka.positions import Position, PositionFault, accepted_metadata, lost_mark

ONE, OTHER = Partition("run.events", 1), Partition("run.events", 2)
TOPIC_ID = "AbCdEfGhIjKlMnOpQrStUv"


class Scripted:
    """`Positions` that answer as a test says, and keep what they were asked."""

    def __init__(self) -> None:
        self.ids = {"run.events": TOPIC_ID}
        self.now: dict[Partition, Position] = {}
        self.orders: dict[Partition, Position] = {}
        self.faults: list[PositionFault | Transient | None] = []  # of the next questions; then none
        self.asked: list[tuple[Partition, Position]] = []

    async def topic_ids(self, topics: Collection[str]) -> Mapping[str, str]:
        return {name: self.ids[name] for name in topics if name in self.ids}

    async def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, Position]:
        return {each: self.now.get(each, Position(offset=None)) for each in partitions}

    async def accepted(self, partitions: Collection[Partition]) -> Mapping[Partition, Position]:
        return {each: self.orders.get(each, Position(offset=None)) for each in partitions}

    async def fault(self, partition: Partition, position: Position) -> PositionFault | None:
        self.asked.append((partition, position))
        found = self.faults.pop(0) if self.faults else None
        if isinstance(found, Transient):
            raise found
        return found


class Guarded:
    """A continuity over scripted positions."""

    def __init__(self, *, stops: bool = True) -> None:
        self.positions = Scripted()
        self.health = Health()
        self.slept = 0
        self.on_sleep = lambda: None
        self.continuity = Continuity(
            self.positions, topics=["run.events"], health=self.health, stops=stops, sleep=self._sleep
        )

    async def _sleep(self, _seconds: float) -> None:
        self.slept += 1
        assert self.slept < 100, "it waits for ever"
        self.on_sleep()
        await asyncio.sleep(0)

    async def handle(self, *batches: Batch) -> None:
        for batch in batches:
            await self.continuity.admit(batch)
            self.continuity.finished(batch)


def batch(*offsets: int, epoch: int = 3, partition: Partition = ONE) -> Batch:
    records = [RawRecord(*partition, offset, 1000, b"k", b"v%d" % offset, (), epoch=epoch) for offset in offsets]
    return Batch(partition, records)


async def test_slices_of_one_epoch_follow_each_other_without_a_look_at_the_log() -> None:
    group = Guarded()
    await group.continuity.begin([ONE])
    await group.handle(batch(0, 1), batch(2, 3))
    assert group.positions.asked == []
    mark = Position(offset=4, metadata=group.continuity.metadata(ONE)).mark
    assert mark is not None
    assert (mark.topic, mark.offset, mark.epoch) == (TOPIC_ID, 3, 3)


async def test_a_record_without_its_bytes_is_no_mark() -> None:
    """The log would not confirm its digest, and its partition would stop for no reason."""
    group = Guarded()
    await group.continuity.begin([ONE])
    cut = Cut(Reason.TOO_LARGE, "its batch inflates to too much")
    without_bytes = [RawRecord(*ONE, offset, 1000, None, None, (), epoch=3, cut=cut) for offset in (2, 3)]
    await group.handle(batch(0, 1), Batch(ONE, [*batch(1).records, without_bytes[0]]), Batch(ONE, without_bytes[1:]))
    mark = Position(offset=4, metadata=group.continuity.metadata(ONE)).mark
    assert mark is not None
    assert mark.offset == 1


async def test_a_later_epoch_is_looked_up_before_its_slice_is_worked_on() -> None:
    group = Guarded()
    await group.continuity.begin([ONE])
    await group.handle(batch(0, 1), batch(2, epoch=5), batch(3, epoch=5))
    [(partition, position)] = group.positions.asked
    assert partition == ONE
    assert position.offset == 2
    assert position.mark is not None
    assert position.mark.offset == 1


async def test_the_mark_that_was_committed_counts_after_an_assignment() -> None:
    group = Guarded()
    await group.continuity.begin([ONE])
    await group.handle(batch(0, 1))
    group.positions.now[ONE] = Position(offset=2, metadata=group.continuity.metadata(ONE))
    await group.continuity.begin([ONE, OTHER])
    assert group.continuity.metadata(ONE) == group.positions.now[ONE].metadata
    assert group.continuity.metadata(OTHER) == ""
    await group.handle(batch(2, epoch=4), batch(0, epoch=4, partition=OTHER))
    assert [partition for partition, _ in group.positions.asked] == [ONE]


async def test_a_partition_whose_log_was_written_again_stops_and_another_goes_on() -> None:
    group = Guarded()
    await group.continuity.begin([ONE, OTHER])
    await group.handle(batch(0, 1), batch(0, partition=OTHER))
    group.positions.faults = [PositionFault.REWRITTEN] * 50
    group.positions.now[ONE] = Position(offset=2, metadata=group.continuity.metadata(ONE))
    stopped = asyncio.create_task(group.handle(batch(2, epoch=4)))
    while not group.health.halted:  # noqa: ASYNC110  # it tells nobody
        await asyncio.sleep(0)
    assert group.health.status() != "ready"
    assert "cut off and written again" in group.health.waiting[ONE]
    assert "tidegate topics accept" in group.health.waiting[ONE]
    assert group.continuity.asleep == {ONE}
    await group.handle(batch(1, partition=OTHER))
    assert not stopped.done()
    group.positions.orders[ONE] = Position(offset=1, metadata=accepted_metadata(group.positions.now[ONE], TOPIC_ID))
    with pytest.raises(Unsettled, match="goes on from another position"):
        await stopped
    assert group.continuity.asleep == set()


async def test_a_partition_whose_log_is_whole_again_goes_on_by_itself() -> None:
    group = Guarded()
    await group.continuity.begin([ONE])
    await group.handle(batch(0))
    group.positions.now[ONE] = Position(offset=1, metadata=group.continuity.metadata(ONE))
    group.positions.faults = [PositionFault.BEYOND_END, PositionFault.BEYOND_END]
    with pytest.raises(Unsettled):
        await group.handle(batch(1, epoch=4))
    assert group.slept == 1


async def test_what_was_handed_over_beyond_a_sound_commit_is_handled_once_more_from_there() -> None:
    """Nothing of it was committed, so that the log's own order brings it back."""
    group = Guarded()
    await group.continuity.begin([ONE])
    await group.handle(batch(0))
    group.positions.now[ONE] = Position(offset=1, metadata=group.continuity.metadata(ONE))
    await group.continuity.admit(batch(1, 2))
    group.positions.faults = [PositionFault.REWRITTEN]
    with pytest.raises(Unsettled, match="goes on from another position"):
        await group.handle(batch(3, epoch=4))
    assert group.positions.asked[-1] == (ONE, group.positions.now[ONE])


async def test_without_a_mark_a_log_that_is_as_long_as_it_was_mends_nothing() -> None:
    """The records that have come since were never handled."""
    group = Guarded()
    await group.continuity.begin([ONE])
    group.positions.now[ONE] = Position(offset=12)
    stopped = asyncio.create_task(group.continuity.stop(ONE, group.positions.now[ONE], PositionFault.BEYOND_END))
    while group.slept < 3:  # noqa: ASYNC110  # it tells nobody
        await asyncio.sleep(0)
    group.positions.orders[ONE] = Position(offset=9, metadata=accepted_metadata(group.positions.now[ONE], TOPIC_ID))
    with pytest.raises(Unsettled):
        await stopped


async def test_a_commit_without_a_mark_beyond_the_log_is_marked_as_lost() -> None:
    group = Guarded()
    await group.continuity.begin([ONE])
    assert group.continuity.mark_lost(ONE, 12)
    mark = Position(offset=12, metadata=group.continuity.metadata(ONE)).mark
    assert mark == lost_mark(TOPIC_ID, 12)
    assert not group.continuity.mark_lost(ONE, 12), "it has a mark now"
    assert not group.continuity.mark_lost(Partition("run.traces", 0), 12), "a compacted topic has none"


async def test_a_place_that_another_record_has_had_stops_its_partition_until_the_log_is_accepted() -> None:
    group = Guarded()
    await group.continuity.begin([ONE])
    await group.handle(batch(0))
    group.positions.now[ONE] = Position(offset=1, metadata=group.continuity.metadata(ONE))
    stopped = asyncio.create_task(
        group.continuity.stop_rewritten(ONE, LogRewritten(1, "run.events/1/1 was stored as x"))
    )
    while group.slept < 3:  # noqa: ASYNC110  # it tells nobody
        await asyncio.sleep(0)
    assert group.health.waiting[ONE].startswith("run.events/1/1 was stored as x: ")
    group.positions.orders[ONE] = Position(offset=1, metadata=accepted_metadata(group.positions.now[ONE], TOPIC_ID))
    with pytest.raises(Unsettled):
        await stopped


async def test_topics_that_are_looked_up_beside_an_assignment_are_not_taken_for_lost() -> None:
    group = Guarded()
    assert await group.continuity.lost_topics() == (set(), set()), "nothing is assigned yet"


async def test_an_accepted_position_is_taken_over_at_the_next_assignment_and_its_mark_is_dropped() -> None:
    group = Guarded()
    await group.continuity.begin([ONE])
    await group.handle(batch(0, 1))
    group.positions.now[ONE] = Position(offset=2, metadata=group.continuity.metadata(ONE))
    group.positions.orders[ONE] = Position(offset=1, metadata=accepted_metadata(group.positions.now[ONE], TOPIC_ID))
    assert await group.continuity.begin([ONE]) == {ONE: 1}
    assert group.continuity.metadata(ONE) == ""
    group.positions.now[ONE] = Position(offset=1)
    assert await group.continuity.begin([ONE]) == {}


async def test_kafka_that_does_not_answer_is_asked_again() -> None:
    group = Guarded()
    await group.continuity.begin([ONE])
    await group.handle(batch(0))
    group.positions.faults = [Transient("away"), Transient("away")]
    seen: list[str] = []
    group.on_sleep = lambda: seen.append(group.health.waiting[ONE])
    await group.handle(batch(1, epoch=4))
    assert seen == ["away", "away"]
    assert group.health.waiting == {}


async def test_a_group_that_keeps_nothing_fails_instead_of_stopping() -> None:
    group = Guarded(stops=False)
    await group.continuity.begin([])
    await group.handle(batch(0))
    group.positions.faults = [PositionFault.REWRITTEN]
    with pytest.raises(Unsettled, match="cut off and written again"):
        await group.handle(batch(1, epoch=4))


async def test_a_topic_that_was_deleted_or_recreated_is_noticed() -> None:
    group = Guarded()
    await group.continuity.begin([ONE])
    assert await group.continuity.lost_topics() == (set(), set())
    group.positions.ids = {"run.events": "0" * 22}
    assert await group.continuity.lost_topics() == (set(), {"run.events"})
    group.positions.ids = {}
    assert await group.continuity.lost_topics() == ({"run.events"}, set())


async def test_a_topic_is_known_as_lost_after_an_assignment_without_it() -> None:
    group = Guarded()
    await group.continuity.begin([ONE])
    group.positions.ids = {}
    await group.continuity.begin([])
    assert await group.continuity.lost_topics() == ({"run.events"}, set())
    group.positions.ids = {"run.events": "0" * 22}
    await group.continuity.begin([ONE])
    assert await group.continuity.lost_topics() == (set(), {"run.events"})


async def test_a_compacted_topic_has_no_marks() -> None:
    group = Guarded()
    await group.continuity.begin([ONE])
    traces = Partition("run.traces", 0)
    await group.handle(batch(0, partition=traces), batch(1, epoch=4, partition=traces))
    assert group.positions.asked == []
    assert group.continuity.metadata(traces) == ""
