"""
One task per partition, each working through its batches in order.

So one partition's backoff does not stall the others, and a partition's records take effect in log order.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from processors.runtime.batch import Batch
from schemas.kafka.places import Partition

Work = Callable[[Batch], Awaitable[None]]
Lane = asyncio.Queue[Batch | None]  # None tells a lane that gathers that its partition is given up

POLL_INTERVAL_S = 0.1  # at whether a lane that is waited for has fallen asleep


class Lanes:
    """The lanes of the partitions that this worker holds."""

    _lane: type[Lane] = asyncio.Queue

    def __init__(
        self,
        work: Work,
        *,
        finished: Callable[[Batch], None],
        fatal: Callable[[BaseException], None],
        is_asleep: Callable[[Partition], bool] = lambda _partition: False,
    ) -> None:
        """
        Work each batch with *work*, then report it to *finished*.

        An error that leaves *work* goes to *fatal*, which ends the process: a lane never skips a batch. A lane that
        *is_asleep* has nothing under way, and is not waited for when its partition is given up.
        """
        self._is_asleep = is_asleep
        self._work = work
        self._finished = finished
        self._fatal = fatal
        self._queues: dict[Partition, Lane] = {}
        self._tasks: dict[Partition, asyncio.Task[None]] = {}

    def dispatch(self, batch: Batch) -> None:
        """Hand *batch* to its partition's lane. `OffsetTracker.has_room` has bounded what waits."""
        if batch.partition not in self._tasks:
            self._queues[batch.partition] = self._lane()
            self._tasks[batch.partition] = asyncio.create_task(
                self._run(self._queues[batch.partition]),
                name=f"lane {batch.partition.topic}/{batch.partition.partition}",
            )
        self._queues[batch.partition].put_nowait(batch)

    async def drain(self, partitions: Iterable[Partition], *, timeout_s: float) -> bool:
        """Wait until the lanes of *partitions* have worked off what they hold, or sleep; False if time ran out."""
        partitions = list(partitions)
        for each in partitions:
            if each in self._queues:
                self._give_up(self._queues[each])
        waits = {asyncio.ensure_future(self._queues[each].join()): each for each in partitions if each in self._queues}
        busy, left_s = set(waits), timeout_s
        while busy and left_s > 0:
            _, busy = await asyncio.wait(busy, timeout=min(POLL_INTERVAL_S, left_s))
            busy = {wait for wait in busy if not self._is_asleep(waits[wait])}
            left_s -= POLL_INTERVAL_S
        for wait in waits:
            wait.cancel()
        return not busy

    async def cancel(self, partitions: Iterable[Partition]) -> None:
        """End the lanes of *partitions*; what they had not finished comes back with the next owner."""
        tasks = [self._tasks.pop(each) for each in partitions if each in self._tasks]
        for each in partitions:
            self._queues.pop(each, None)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _give_up(self, lane: Lane) -> None:
        """Tell *lane* that its partition is given up."""

    async def _run(self, lane: Lane) -> None:
        while True:
            batch = await self._next(lane)
            for each in batch.slices:
                each.begun = True
            try:
                await self._work(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, going on would skip the batch
                self._fatal(error)
                return
            self._finished(batch)
            for _ in batch.slices:
                lane.task_done()

    async def _next(self, lane: Lane) -> Batch:
        """Return the next work."""
        batch = await lane.get()
        assert batch is not None
        return batch
