"""
Batches that are gathered across slices, for effects that cost about as much for one record as for a hundred.

A lane gathers what is fetched until a bound is reached, or until some time after the batch's first record came, for
which no further record is needed. A gathered batch is worked, and then finished, as one. It never exceeds the bounds,
but for a single record that does: slices that exceed them are cut into parts when they are fetched.

No batch crosses an offset that is a multiple of the number of records that it may have. So the full batches of a
partition are the same ones whatever came before: after a crash they are cut where they were cut before.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from processors.runtime.batch import Batch, Slice
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.lanes import Lane, Lanes, Work
from processors.runtime.offset_tracker import InFlightBounds
from schemas.kafka.places import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """
    The bounds of a batch: the number of records, the bytes of values, and the time since its first record came.

    The offsets from one multiple of `records_max` to the next are a window; a batch has records of one window.
    """

    records_max: int
    bytes_max: int
    seconds_max: float

    @property
    def in_flight(self) -> InFlightBounds:
        """Return what of a partition may be unfinished: one batch in work, and the next one."""
        return InFlightBounds(batches_max=inf, records_max=2 * self.records_max, bytes_max=2 * self.bytes_max)

    def parts(self, records: Slice) -> Sequence[Slice]:
        """Return *records* in parts within the bounds; a record that exceeds them is a part of its own."""
        parts, part = list[Slice](), Slice()
        for record in records:
            size_bytes = len(record.value or b"")
            if part and not (
                self.share_window(part[-1].offset, record.offset) and self.hold(part.size_bytes + size_bytes)
            ):
                parts.append(part)
                part = Slice()
            part.append(record)
            part.size_bytes += size_bytes
        return [*parts, part]

    def hold(self, size_bytes: int) -> bool:
        """Return True if a batch may have so many bytes."""
        return size_bytes <= self.bytes_max

    def share_window(self, first: int, second: int) -> bool:
        """Return True if records at these two offsets may be in one batch, which bounds their number too."""
        return first // self.records_max == second // self.records_max

    def are_reached(self, end_offset: int, size_bytes: int) -> bool:
        """Return True if nothing can join a batch of so many bytes that ends before *end_offset*."""
        return end_offset % self.records_max == 0 or size_bytes >= self.bytes_max


def _is_of_one_leader(before: Batch, following: Batch) -> bool:
    """Return True unless the leader changed: whether the log goes on as it was is checked where a batch begins."""
    return before.records[-1].epoch == following.records[0].epoch


class GatheringLane(Lane):
    """A lane from which the next slice can be put back; None in it says that its partition is given up."""

    put_back: Batch | None = None
    is_given_up = False


class GatheringLanes(Lanes):
    """Lanes whose batches are gathered from slices."""

    _lane = GatheringLane

    def __init__(
        self,
        work: Work,
        *,
        bounds: Bounds,
        finished: Callable[[Batch], None],
        fatal: Callable[[BaseException], None],
        is_asleep: Callable[[Partition], bool] = lambda _partition: False,
    ) -> None:
        """Cut batches at *bounds*, and what is gathered when its partition is given up; see `Lanes` for the rest."""
        super().__init__(work, finished=finished, fatal=fatal, is_asleep=is_asleep)
        self._bounds = bounds

    def dispatch(self, batch: Batch) -> None:
        """Hand *batch* to its partition's lane."""
        batch.came_s = asyncio.get_running_loop().time()
        super().dispatch(batch)

    def _give_up(self, lane: Lane) -> None:
        """Let *lane* cut what is gathered."""
        lane.put_nowait(None)

    async def _next(self, lane: Lane) -> Batch:
        assert isinstance(lane, GatheringLane)
        gathered: list[Batch] = []
        size_bytes = 0
        while (following := await self._following(lane, gathered)) is not None:
            size_bytes += following.size_bytes
            if gathered and not (self._follow(gathered[-1], following) and self._bounds.hold(size_bytes)):
                lane.put_back = following
                break
            gathered.append(following)
            reach(Failpoint.AFTER_GATHER)
            if self._bounds.are_reached(following.end_offset, size_bytes):
                break
        reach(Failpoint.AFTER_CUT)
        return gathered[0] if len(gathered) == 1 else Batch.of(gathered)

    def _follow(self, before: Batch, following: Batch) -> bool:
        return _is_of_one_leader(before, following) and self._bounds.share_window(
            before.records[-1].offset, following.records[0].offset
        )

    async def _following(self, lane: GatheringLane, gathered: Sequence[Batch]) -> Batch | None:
        """Return the slice that follows *gathered*; None if the batch must be cut, never for its first slice."""
        if lane.put_back is not None:
            following, lane.put_back = lane.put_back, None
            return following
        deadline_s = gathered[0].came_s + self._bounds.seconds_max if gathered else None
        while not (gathered and lane.is_given_up and lane.empty()):
            try:
                async with asyncio.timeout_at(deadline_s):
                    found = await lane.get()
            except TimeoutError:
                return None
            if found is not None:
                return found
            lane.is_given_up = True
            lane.task_done()
        return None
