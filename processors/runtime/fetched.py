"""
Records fetched by aiokafka, as our own type: a replacement for its unpacking, through its private names.

The header of each record batch carries the epoch of the leader that appended it (KIP-101), which aiokafka ignores. A
group needs it to notice that the log was cut off.

A batch that cannot be unpacked, or not inflated within our bound, becomes records without bytes: each has its own
outcome, and consumption goes on.
"""

import struct
import sys
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP

from processors.runtime.batch import Cut, RawRecord, Slice
from processors.runtime.inflating import INFLATE, InflatesTooMuch, NotInflated, meter
from schemas.errors import Reason

SLICE_BYTES_MAX = 8 * 1024 * 1024  # of values; and the record that passes it

# base offset, length of what follows, leader epoch (Kafka's record batch, version 2)
_HEADER = struct.Struct(">qii")
_LENGTH_ENDS_AT = 12


class RecordBatches:
    """Fetched record batches, the one that was taken last, and the epoch of its leader."""

    def __init__(self, data: bytes) -> None:
        """Read *data*, the records of one partition in a fetch response."""
        self._data = data
        self._records = MemoryRecords(data)
        self._next = 0  # where the next batch begins
        self.epoch = -1
        self.last: Any = None

    def size_in_bytes(self) -> int:
        """Return the size of what was fetched."""
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        """Return True if another whole batch follows."""
        return bool(self._records.has_next())

    def next_batch(self) -> Any:
        """Take the next batch."""
        batch = self.last = self._records.next_batch()
        if batch is not None:
            _, length, self.epoch = _HEADER.unpack_from(self._data, self._next)
            self._next += _LENGTH_ENDS_AT + length
        return batch


class SliceRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka is untyped to us
    """A fetched slice, unpacked into our records; what cannot be unpacked becomes records without bytes."""

    next_fetch_offset: int
    _records: RecordBatches

    def __init__(self, tp: TP, records: RecordBatches, *args: Any, **kwargs: Any) -> None:
        """Take what aiokafka passes."""
        self.fetched_bytes = records.size_in_bytes()
        super().__init__(tp, records, *args, **kwargs)

    def __iter__(self) -> Iterator[RawRecord]:
        """Iterate over the records as aiokafka's own does, without a call for each of them."""
        records: Iterator[RawRecord] = self._records_iterator
        return records

    def _unpack_records(self) -> Iterator[RawRecord]:
        while True:
            try:
                yield from super()._unpack_records()
            except InflatesTooMuch as error:
                yield from self._without_bytes(Reason.TOO_LARGE, str(error))
            except (NotInflated, UnicodeDecodeError) as error:
                # The second is a header whose name is not UTF-8: aiokafka cannot go past it within its batch.
                yield from self._without_bytes(Reason.UNDECODABLE, f"the record's batch cannot be read: {error}")
            else:
                return

    def _without_bytes(self, reason: Reason, detail: str) -> Iterator[RawRecord]:
        """Stand in for what is left of the batch that was taken last."""
        cut, batch, (topic, partition) = Cut(reason, detail), self._records.last, self._tp
        for offset in range(max(self.next_fetch_offset, batch.base_offset), batch.next_offset):
            self.next_fetch_offset = offset + 1
            time_ms, epoch = batch.max_timestamp, self._records.epoch
            yield RawRecord(topic, partition, offset, time_ms, None, None, (), epoch=epoch, cut=cut)

    def _consumer_record(self, tp: TP, record: Any) -> RawRecord:
        return RawRecord(
            tp.topic,
            tp.partition,
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            record.headers,
            0,
            0,
            self._records.epoch,
        )


class SliceResult(fetcher.FetchResult):  # type: ignore[misc]  # aiokafka is untyped to us
    """The fetched records of one partition, returned in slices that are bounded in bytes too."""

    _partition_records: Any

    def getall(self, max_records: int | None = None) -> Slice:
        """Return the next records as aiokafka's own does, fewer where they are large."""
        taken = Slice()
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return taken
        records, inflated_before = self._partition_records, meter.inflated_bytes
        value_bytes = 0
        for record in records:
            taken.append(record)
            value_bytes += len(record.value or b"")
            if value_bytes >= SLICE_BYTES_MAX or (max_records is not None and len(taken) >= max_records):
                self._update_position()
                break
        else:
            self._update_position()
            self._partition_records = None
        # Values alone would miss large keys and headers; to measure those one by one costs a tenth of a slice's time.
        held_bytes = meter.inflated_bytes - inflated_before + records.fetched_bytes
        records.fetched_bytes = 0
        taken.size_bytes = max(value_bytes, held_bytes)
        return taken


def install() -> None:
    """
    Let aiokafka unpack, hand out and inflate what it fetches like this, in the whole process.

    It names no other way, and ours is the one consumer here.
    """
    fetcher.MemoryRecords = RecordBatches
    fetcher.PartitionRecords = SliceRecords
    fetcher.FetchResult = SliceResult
    batches = sys.modules[DefaultRecordBatch.__module__]  # compiled, or the same in Python
    for name, inflate in INFLATE.items():
        setattr(batches, name, meter.counting(inflate))
