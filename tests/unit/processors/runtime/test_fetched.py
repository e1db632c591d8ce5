"""What becomes of fetched batches of records, those among them that cannot be read included."""

import struct
import sys

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from processors.runtime.fetched import SLICE_BYTES_MAX, RecordBatches, SliceRecords, SliceResult, install
from processors.runtime.inflating import INFLATE, INFLATED_BYTES_MAX
from schemas.errors import Reason

TOPIC = TopicPartition("run.events", 3)
NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CRC_AT, CRC_FROM = 17, 21  # of a batch: where its checksum stands, and where what it covers begins


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Aiokafka as a worker has it, and as it was afterwards."""
    batches = sys.modules[DefaultRecordBatch.__module__]
    for owner, name in [
        (fetcher, "MemoryRecords"),
        (fetcher, "PartitionRecords"),
        (fetcher, "FetchResult"),
        *((batches, name) for name in INFLATE),
    ]:
        monkeypatch.setattr(owner, name, getattr(owner, name))
    install()


def batch(base_offset: int, *values: bytes, coding: int = NONE, header: bytes = b"name") -> bytes:
    builder = DefaultRecordBatchBuilder(2, coding, 0, -1, -1, -1, 2**31 - 1)
    for place, value in enumerate(values):
        builder.append(place, 1000 + place, b"key", value, [("name", b"")])
    packed = bytearray(builder.build())
    if header != b"name":
        assert coding == NONE
        assert len(header) == len(b"name")
        packed = packed.replace(b"name", header)
    packed[:8] = struct.pack(">q", base_offset)
    packed[CRC_AT:CRC_FROM] = struct.pack(">I", calc_crc32c(packed[CRC_FROM:]))
    return bytes(packed)


def unpacked(*batches: bytes, fetch_offset: int = 0) -> SliceRecords:
    return SliceRecords(
        TOPIC, RecordBatches(b"".join(batches)), None, fetch_offset, None, None, True, fetcher.READ_COMMITTED
    )


@pytest.mark.usefixtures("replaced")
@pytest.mark.parametrize("coding", [NONE, GZIP, SNAPPY, LZ4, ZSTD])
def test_batches_of_every_coding_are_unpacked(coding: int) -> None:
    records = list(unpacked(batch(0, b"a", b"b", coding=coding), batch(2, b"c", coding=coding)))
    assert [(each.offset, each.value, each.cut) for each in records] == [
        (0, b"a", None),
        (1, b"b", None),
        (2, b"c", None),
    ]


@pytest.mark.usefixtures("replaced")
@pytest.mark.parametrize("coding", [GZIP, SNAPPY, LZ4, ZSTD])
def test_a_batch_that_inflates_to_too_much_becomes_records_without_bytes(coding: int) -> None:
    """Regression: 200 MB of zeros, 7 KB on the wire, took the memory of each worker."""
    zeros = bytes(INFLATED_BYTES_MAX // 2)
    slices = unpacked(batch(0, b"a"), batch(1, zeros, zeros, zeros, coding=coding), batch(4, b"b", coding=coding))
    records = list(slices)
    assert [(each.offset, each.value) for each in records] == [(0, b"a"), (1, None), (2, None), (3, None), (4, b"b")]
    cuts = [each.cut for each in records]
    assert [each and each.reason for each in cuts] == [None, *[Reason.TOO_LARGE] * 3, None]
    assert slices.next_fetch_offset == 5


@pytest.mark.usefixtures("replaced")
def test_a_header_that_is_no_text_costs_its_batch_and_not_the_worker() -> None:
    """Regression: aiokafka raises at it, again at each start."""
    slices = unpacked(batch(0, b"a"), batch(1, b"b", b"c", header=b"\xff\xfe\xff\xfe"), batch(3, b"d"))
    records = list(slices)
    assert [(each.offset, each.value) for each in records] == [(0, b"a"), (1, None), (2, None), (3, b"d")]
    assert records[1].cut is not None
    assert records[1].cut.reason is Reason.UNDECODABLE


@pytest.mark.usefixtures("replaced")
def test_what_lies_before_the_fetch_offset_is_not_handed_out_again() -> None:
    zeros = bytes(INFLATED_BYTES_MAX)
    records = list(unpacked(batch(0, zeros, zeros, zeros, coding=ZSTD), fetch_offset=2))
    assert [each.offset for each in records] == [2]


@pytest.mark.usefixtures("replaced")
def test_a_batch_that_was_damaged_on_its_way_is_fetched_again() -> None:
    damaged = bytearray(batch(0, b"a"))
    damaged[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        list(unpacked(bytes(damaged)))


class Assigned:
    """An assignment whose position is wherever was read to."""

    active = True
    paused = False
    position = 0

    def state_value(self, _partition: object) -> "Assigned":
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position


@pytest.mark.usefixtures("replaced")
def test_a_slice_is_bounded_in_bytes_and_says_how_many_it_holds() -> None:
    value = bytes(SLICE_BYTES_MAX // 2)
    values = [value, value, value, b"last"]
    batches = [batch(offset, each, coding=ZSTD) for offset, each in enumerate(values)]
    result = SliceResult(TOPIC, assignment=Assigned(), partition_records=unpacked(*batches), backoff=0)
    first, second = result.getall(100), result.getall(100)
    assert ([each.offset for each in first], [each.offset for each in second]) == ([0, 1], [2, 3])
    assert first.size_bytes >= 2 * len(value)
    assert len(value) <= second.size_bytes < 2 * len(value)
    assert not result.has_more()


@pytest.mark.usefixtures("replaced")
def test_a_slice_has_no_more_records_than_are_asked_for() -> None:
    records = unpacked(batch(0, *[b"v"] * 5))
    result = SliceResult(TOPIC, assignment=Assigned(), partition_records=records, backoff=0)
    assert [len(result.getall(2)) for _ in range(3)] == [2, 2, 1]


@pytest.mark.usefixtures("replaced")
def test_large_headers_count_as_what_is_held() -> None:
    builder = DefaultRecordBatchBuilder(2, ZSTD, 0, -1, -1, -1, 2**31 - 1)
    builder.append(0, 1000, bytes(1_000_000), b"v", [("name", bytes(2_000_000))])
    result = SliceResult(TOPIC, assignment=Assigned(), partition_records=unpacked(bytes(builder.build())), backoff=0)
    assert result.getall(10).size_bytes > 3_000_000
