"""
The progress in each partition: the batches in work, and the offsets that may be committed.

Pure: no clock, no loop, no broker. The committable offset is the end of the longest prefix of finished batches, so
it never passes a record whose effect is not durable (P5), whatever order batches finish in.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from processors.runtime.batch import Batch
from schemas.kafka.places import Partition

BATCHES_MAX = 3  # one in work, the next ready, one on its way
BYTES_MAX = 32 * 1024 * 1024
TOTAL_BYTES_MAX = 3 * BYTES_MAX  # of all partitions; one that has no batch gets one nevertheless


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlightBounds:
    """The bounds on the unfinished batches of one partition; more is fetched only within them."""

    batches_max: float = BATCHES_MAX
    records_max: float = inf
    bytes_max: int = BYTES_MAX


@dataclass(slots=True)
class _Assigned:
    batches: deque[Batch] = field(default_factory=deque)
    records: int = 0
    size_bytes: int = 0
    pending_commit: int | None = None  # end of the finished prefix, not yet committed; None: nothing new
    finished_to: int = -1  # the largest end of a finished prefix

    @property
    def is_settled(self) -> bool:
        """Return True if nothing is open and nothing waits to be committed."""
        return not self.batches and self.pending_commit is None

    @property
    def leaves_work(self) -> bool:
        """Return True if something was begun and is not finished, or is finished and not committed."""
        return self.pending_commit is not None or any(batch.begun for batch in self.batches)


class OffsetTracker:
    """The partitions that this worker holds."""

    def __init__(
        self, *, commits: bool = True, skips: bool = True, in_flight: InFlightBounds = InFlightBounds()
    ) -> None:
        """
        Hold nothing; each partition may have *in_flight*.

        Unless it *commits*, what is finished is settled, and nothing is ever to be committed. Unless it *skips*, only
        the ends of finished batches are: offsets that hold nothing count with the next batch.
        """
        self._commits = commits
        self._skips = skips
        self._in_flight = in_flight
        self.left_work = False  # whether something begun was not finished or not committed in what was dropped last
        self._assigned: dict[Partition, _Assigned] = {}
        self._size_bytes = 0

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Start over with each of *partitions*."""
        for partition in partitions:
            self._assigned[partition] = _Assigned()
        self._size_bytes = sum(held.size_bytes for held in self._assigned.values())

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Drop what is known of revoked *partitions*; a batch that finishes later counts for nothing."""
        dropped = [held for partition in partitions if (held := self._assigned.pop(partition, None)) is not None]
        self._size_bytes = sum(held.size_bytes for held in self._assigned.values())
        if dropped:
            self.left_work = any(held.leaves_work for held in dropped)

    def has_room(self, partition: Partition) -> bool:
        """Return True if another batch of *partition* may be fetched."""
        held = self._assigned.get(partition)
        if held is None or not held.batches:
            return held is not None
        in_flight = self._in_flight
        return (
            len(held.batches) < in_flight.batches_max
            and held.records < in_flight.records_max
            and held.size_bytes < in_flight.bytes_max
            and self._size_bytes < TOTAL_BYTES_MAX
        )

    def open(self, batch: Batch) -> bool:
        """Take *batch* in, in log order; False if its partition is not ours any more."""
        held = self._assigned.get(batch.partition)
        if held is None:
            return False
        held.batches.append(batch)
        held.records += len(batch.records)
        held.size_bytes += batch.size_bytes
        self._size_bytes += batch.size_bytes
        return True

    def join(self, gathered: Batch, batch: Batch) -> None:
        """
        Note that *batch* will be finished with *gathered*, the oldest that is open, and that its records leave memory.

        *batch* is the one that follows *gathered*, or the same. Its own figures are still those with which it came.
        """
        held = self._assigned.get(batch.partition)
        if held is None or not held.batches or held.batches[0] is not gathered:
            return
        held.records -= len(batch.records)
        held.size_bytes -= batch.size_bytes
        self._size_bytes -= batch.size_bytes
        if batch is not gathered:
            held.batches.remove(batch)

    def finish(self, batch: Batch) -> None:
        """Note that every effect of *batch* is durable."""
        batch.finished = True
        held = self._assigned.get(batch.partition)
        if held is None:
            return
        while held.batches and held.batches[0].finished:
            done = held.batches.popleft()
            held.records -= len(done.records)
            held.size_bytes -= done.size_bytes
            self._size_bytes -= done.size_bytes
            if self._commits and done.end_offset > held.finished_to:
                held.pending_commit = held.finished_to = done.end_offset

    def skip_to(self, partition: Partition, position: int, committed: int | None) -> None:
        """
        Note that the log holds nothing for us before *position* (transaction markers, compacted records).

        Only for a partition with no batch open; else the prefix decides.
        """
        held = self._assigned.get(partition)
        if held is None or held.batches or not (self._commits and self._skips):
            return
        if position > max(committed or 0, held.pending_commit or 0):
            held.pending_commit = position

    def to_commit(self) -> list[Partition]:
        """Return the partitions whose finished prefix has grown since the last commit."""
        return [partition for partition, held in self._assigned.items() if held.pending_commit is not None]

    def committable(self, partition: Partition) -> int | None:
        """Return the next offset to commit, or None if there is nothing new."""
        held = self._assigned.get(partition)
        return None if held is None else held.pending_commit

    def committed(self, partition: Partition, offset: int) -> None:
        """Note that the broker has taken *offset*."""
        held = self._assigned.get(partition)
        if held is not None and held.pending_commit == offset:
            held.pending_commit = None

    def settled(self) -> bool:
        """Return True if nothing is open and nothing waits to be committed."""
        return all(held.is_settled for held in self._assigned.values())
