"""
Slices that are spooled beside the log until enough of them have come, for effects of many thousand records at once.

What is in the spool is not durable: it ends with the process, and the committed offset brings it back. So its slices
stay unfinished, for an hour if need be, while their records are dropped from memory as soon as they are spooled. What
is spooled is put, and then finished, as one: when the spool is full, or some time after its first record came, for
which no further record is needed. When the partition is given up, it is dropped.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from processors.runtime.batch import Batch
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.lanes import Lane, Lanes, Work
from schemas.kafka.places import Partition

SECONDS_MIN_PART = 1 / 60  # of the time that a batch may be gathered


class Spool(Protocol):
    """
    The port to what is gathered of each partition, and to its effect.

    What is away is waited for as long as that takes; any other error ends the process.
    """

    seconds_max: float  # from when the first record came to when it is put

    @property
    def clock_s(self) -> Callable[[], float]:
        """Return the clock that tells the time of day."""

    async def add(self, batch: Batch) -> None:
        """Gather *batch*, which follows what was added before."""

    def is_full(self, partition: Partition) -> bool:
        """Return True if what is gathered must be put before more is added."""

    async def put(self, partition: Partition) -> int:
        """
        Bring about the effect of what is gathered; return the offset of the first record that it does not include.

        That may lie behind what was gathered: a worker that held the partition before has put more of it. Records
        before it that are added later have had their effect.
        """

    def drop(self, partition: Partition) -> None:
        """Forget what is gathered; whoever holds the partition next gathers it again."""


def seconds_left(seconds_max: float, *, age_s: float) -> float:
    """
    Return for how long a batch is gathered whose first record had this age when it came.

    A partition that often changes hands begins again each time with records that have waited already.
    """
    return min(seconds_max, max(seconds_max - age_s, seconds_max * SECONDS_MIN_PART))


class SpoolingLanes(Lanes):
    """Lanes whose slices are spooled, and finished together."""

    def __init__(
        self,
        work: Work,
        *,
        spool: Spool,
        joined: Callable[[Batch, Batch], None],
        finished: Callable[[Batch], None],
        fatal: Callable[[BaseException], None],
        is_asleep: Callable[[Partition], bool] = lambda _partition: False,
    ) -> None:
        """
        Add each slice to *spool* by *work*; see `Lanes` for the rest.

        *joined* is given what is gathered and a slice that has joined it.
        """
        super().__init__(work, finished=finished, fatal=fatal, is_asleep=is_asleep)
        self._spool = spool
        self._joined = joined

    def _give_up(self, lane: Lane) -> None:
        lane.put_nowait(None)

    async def _run(self, lane: Lane) -> None:
        gathered: Batch | None = None
        partition: Partition | None = None
        deadline_s: float | None = None
        try:
            while True:
                is_due = False
                try:
                    async with asyncio.timeout_at(deadline_s):
                        batch = await lane.get()
                except TimeoutError:
                    is_due = True
                else:
                    if batch is None:
                        lane.task_done()
                        return
                    partition = batch.partition
                    if gathered is None:
                        deadline_s = self._deadline_s(batch)
                    await self._work(batch)
                    gathered = self._with(gathered, batch)
                    lane.task_done()
                    reach(Failpoint.AFTER_GATHER)
                if gathered is not None and (is_due or self._spool.is_full(gathered.partition)):
                    await self._put(gathered)
                    gathered = deadline_s = None
        except Exception as error:  # noqa: BLE001 - whatever it is, going on would skip what was gathered
            self._fatal(error)
        finally:
            if partition is not None:
                self._spool.drop(partition)

    def _deadline_s(self, batch: Batch) -> float:
        age_s = self._spool.clock_s() - batch.records[0].timestamp / 1000
        return asyncio.get_running_loop().time() + seconds_left(self._spool.seconds_max, age_s=age_s)

    def _with(self, gathered: Batch | None, batch: Batch) -> Batch:
        """Return what is gathered, *batch* included."""
        if gathered is None:
            gathered = batch
        self._joined(gathered, batch)
        gathered.join(batch)
        return gathered

    async def _put(self, gathered: Batch) -> None:
        reach(Failpoint.AFTER_CUT)
        gathered.begun = True
        gathered.end_offset = max(gathered.end_offset, await self._spool.put(gathered.partition))
        reach(Failpoint.AFTER_COMMIT_BEFORE_OFFSET)
        self._finished(gathered)
