"""One lane a partition: order within, independence between."""

import asyncio

from processors.runtime.backoff import FIRST_S, LAST_S, delay_s
from processors.runtime.batch import Batch
from processors.runtime.lanes import Lanes
from schemas.kafka.places import Partition
from tests.support.builders import Raw

ONE, TWO = Partition("t", 1), Partition("t", 2)


def batch(partition: Partition, offset: int = 0) -> Batch:
    return Batch(partition, [Raw(offset=offset)])


class Work:
    """Works when the test opens its gate."""

    def __init__(self) -> None:
        self.started: list[tuple[Partition, int]] = []
        self.finished: list[Batch] = []
        self.fatal: list[BaseException] = []
        self.gates = {ONE: asyncio.Event(), TWO: asyncio.Event()}
        self.error: Exception | None = None
        self.lanes = Lanes(self.work, finished=self.finished.append, fatal=self.fatal.append)

    async def work(self, given: Batch) -> None:
        self.started.append((given.partition, given.end_offset))
        await self.gates[given.partition].wait()
        if self.error:
            raise self.error


async def test_a_partition_that_waits_does_not_stall_another() -> None:
    work = Work()
    slow, quick = batch(ONE), batch(TWO)
    work.lanes.dispatch(slow)
    work.lanes.dispatch(quick)
    work.gates[TWO].set()
    assert await work.lanes.drain([TWO], timeout_s=5)
    assert work.finished == [quick]
    await work.lanes.cancel([ONE, TWO])


async def test_batches_of_a_partition_are_worked_one_after_the_other() -> None:
    work = Work()
    batches = [batch(ONE, offset) for offset in range(3)]
    for each in batches:
        work.lanes.dispatch(each)
    await asyncio.sleep(0)
    assert work.started == [(ONE, 1)]
    assert [each.begun for each in batches] == [True, False, False]
    work.gates[ONE].set()
    assert await work.lanes.drain([ONE], timeout_s=5)
    assert work.finished == batches
    await work.lanes.cancel([ONE])


async def test_draining_gives_up_in_time() -> None:
    work = Work()
    work.lanes.dispatch(batch(ONE))
    assert not await work.lanes.drain([ONE], timeout_s=0.01)
    await work.lanes.cancel([ONE])
    assert work.finished == []


async def test_a_cancelled_lane_finishes_nothing_and_can_start_again() -> None:
    work = Work()
    work.lanes.dispatch(batch(ONE))
    await asyncio.sleep(0)
    await work.lanes.cancel([ONE])
    work.gates[ONE].set()
    again = batch(ONE)
    work.lanes.dispatch(again)
    assert await work.lanes.drain([ONE], timeout_s=5)
    assert work.finished == [again]
    await work.lanes.cancel([ONE])


async def test_an_error_is_fatal_and_nothing_behind_it_is_worked() -> None:
    work = Work()
    work.error = ValueError("a bug")
    work.gates[ONE].set()
    work.lanes.dispatch(batch(ONE, 0))
    work.lanes.dispatch(batch(ONE, 1))
    assert not await work.lanes.drain([ONE], timeout_s=0.01)
    assert work.fatal == [work.error]
    assert work.started == [(ONE, 1)]
    assert work.finished == []
    await work.lanes.cancel([ONE])


def test_waits_double_up_to_a_bound() -> None:
    mark_waiting = [delay_s(attempt, jitter=0) for attempt in (1, 2, 3, 4, 100, 10_000)]
    assert mark_waiting == [FIRST_S, FIRST_S * 2, FIRST_S * 4, FIRST_S * 8, LAST_S, LAST_S]
    assert delay_s(1, jitter=0.999) >= FIRST_S / 2


async def test_a_lane_that_sleeps_is_not_waited_for() -> None:
    work = Work()
    asleep: set[Partition] = set()
    lanes = Lanes(work.work, finished=work.finished.append, fatal=work.fatal.append, is_asleep=asleep.__contains__)
    lanes.dispatch(batch(ONE))
    await asyncio.sleep(0)
    asleep.add(ONE)
    assert await lanes.drain([ONE], timeout_s=60)
    assert work.finished == []
    await lanes.cancel([ONE])
