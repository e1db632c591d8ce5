"""One fetched slice of a partition: what our transport hands to Faust as a single event."""

from collections.abc import Sequence
from typing import Any

import msgspec

from schemas.errors import Reason
from schemas.kafka.places import Partition, RecordPlace
from schemas.kafka.positions import Mark


class Cut(msgspec.Struct, frozen=True, gc=False):
    """A placeholder for record bytes that are missing; without them the record can only become a dead letter."""

    reason: Reason
    detail: str
    value_bytes: int | None = None  # None: its value was never seen whole
    value_sha256: str | None = None


class RawRecord(msgspec.Struct, frozen=True, gc=False):
    """A record of the log: what aiokafka's own type holds, at a fifth of its cost."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # milliseconds since the epoch
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    attempt: int = 0  # how often it was a dead letter that an operator sent back
    tier: int = 0  # how many of its group's delay tiers it has waited in
    epoch: int = -1  # of the leader that appended it; -1: not known
    cut: Cut | None = None  # None: key, value and headers are all there

    @property
    def place(self) -> RecordPlace:
        """Return its position in the log."""
        return RecordPlace(self.topic, self.partition, self.offset)


class Slice(list[RawRecord]):
    """Fetched records, and about how many bytes of memory they take."""

    size_bytes = 0


class Batch:
    """
    Consecutive records of one partition, whether work on them has begun, and whether their effects are durable.

    It is one slice, or what was gathered from several.
    """

    __slots__ = ("_gathered", "begun", "came_s", "end_offset", "finished", "mark", "partition", "records", "size_bytes")

    def __init__(self, partition: Partition, records: Sequence[RawRecord]) -> None:
        """Take a non-empty slice, in log order."""
        self.partition = partition
        self.records = records
        self.end_offset = records[-1].offset + 1
        if isinstance(records, Slice):
            self.size_bytes = records.size_bytes
        else:
            self.size_bytes = sum([len(record.value or b"") for record in records])
        self.mark: Mark | None = None  # of the last record, where the group keeps marks
        self.begun = False
        self.finished = False
        self.came_s = 0.0  # when its lane was given it, by the loop's clock; only of a lane that gathers
        self._gathered: Sequence[Batch] = ()

    @classmethod
    def of(cls, slices: Sequence["Batch"]) -> "Batch":
        """Return consecutive *slices* as one batch."""
        records = Slice(record for each in slices for record in each.records)
        records.size_bytes = sum(each.size_bytes for each in slices)
        batch = cls(slices[0].partition, records)
        batch._gathered = slices
        return batch

    def join(self, batch: "Batch") -> None:
        """Take *batch* in, which follows, or is the same; the records of both are dropped."""
        self.end_offset, self.mark = batch.end_offset, batch.mark or self.mark
        for each in (self, batch):
            each.records, each.size_bytes = (), 0

    @property
    def slices(self) -> Sequence["Batch"]:
        """Return the slices that it was gathered from; itself if it is one."""
        return self._gathered or (self,)

    @classmethod
    def from_data(cls, value: Any, *, preferred_type: Any = None) -> Any:  # noqa: ARG003 - Faust's signature
        """Let Faust pass the batch through its model layer unchanged."""
        return value
