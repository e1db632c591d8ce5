"""
What aiokafka has fetched, as our records: the place of its own unpacking, by its private names.

The header of each batch of records carries the epoch of the leader that appended it (KIP-101), which aiokafka passes
by; a group needs it to notice that the log was cut off under it.
"""

import struct
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP

from processors.runtime.batch import RawRecord

# base offset, length of what follows, leader epoch (Kafka's record batch, version 2)
_HEADER = struct.Struct(">qii")
_LENGTH_ENDS_AT = 12


class EpochRecords:
    """Fetched record batches, and the leader epoch of the one that was taken last."""

    def __init__(self, data: bytes) -> None:
        """Go over *data*, the records of one partition in a fetch response."""
        self._data = data
        self._records = MemoryRecords(data)
        self._next = 0  # where the next batch begins
        self.epoch = -1

    def size_in_bytes(self) -> int:
        """The size of what was fetched."""
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        """True if another whole batch follows."""
        return bool(self._records.has_next())

    def next_batch(self) -> Any:
        """Take the next batch."""
        batch = self._records.next_batch()
        if batch is not None:
            _, length, self.epoch = _HEADER.unpack_from(self._data, self._next)
            self._next += _LENGTH_ENDS_AT + length
        return batch


class SliceRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka is untyped to us
    """A fetched slice, unpacked into our records."""

    def __iter__(self) -> Iterator[RawRecord]:
        """Go over the records as aiokafka's own does, without a call for each of them."""
        records: Iterator[RawRecord] = self._records_iterator
        return records

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


def install() -> None:
    """Let aiokafka unpack what it fetches like this; it names no other way, and ours is the one consumer here."""
    fetcher.MemoryRecords = EpochRecords
    fetcher.PartitionRecords = SliceRecords
