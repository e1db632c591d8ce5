"""
The private names of Faust, mode and aiokafka that `processors/runtime` stands on.

They are pinned exactly; this suite says at the first upgrade which of them moved or changed its shape.
"""

import inspect
import struct
import sys
from importlib.metadata import version
from typing import Any

import faust.streams
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher, subscription_state
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from faust import App
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer as BaseConsumer
from faust.transport.consumer import ThreadDelegateConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import ConsumerMessage
from mode import Service

from processors.runtime.fetched import RecordBatches, SliceRecords, SliceResult
from processors.runtime.inflating import INFLATE


@pytest.mark.parametrize(
    ("package", "pinned"), [("faust-streaming", "0.15.3"), ("mode-streaming", "0.7.1"), ("aiokafka", "0.14.0")]
)
def test_the_versions_are_those_that_were_read(package: str, pinned: str) -> None:
    assert version(package) == pinned


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("owner", "name", "expected"),
    [
        (AIOKafkaConsumerThread, "_create_worker_consumer", ["self", "transport"]),
        (AIOKafkaConsumerThread, "_ensure_consumer", ["self"]),
        (AIOKafkaConsumerThread, "seek", ["self", "partition", "offset"]),
        (AIOKafkaConsumerThread, "call_thread", ["self", "fun", "args", "kwargs"]),
        (Consumer, "_new_consumer_thread", ["self"]),
        (App, "_create_directories", ["self"]),
        (BaseConsumer, "getmany", ["self", "timeout"]),
        (ThreadDelegateConsumer, "_getmany", ["self", "active_partitions", "timeout"]),
        (BaseConsumer, "_get_active_partitions", ["self"]),
        (BaseConsumer, "_add_gap", ["self", "tp", "offset_from", "offset_to"]),
        (BaseConsumer, "_filter_tps_with_pending_acks", ["self", "topics"]),
        (BaseConsumer, "_new_offset", ["self", "tp"]),
        (BaseConsumer, "_should_commit", ["self", "tp", "offset"]),
        (BaseConsumer, "_commit_offsets", ["self", "offsets", "start_new_transaction"]),
        (BaseConsumer, "on_partitions_revoked", ["self", "revoked"]),
        (BaseConsumer, "on_partitions_assigned", ["self", "assigned", "generation_id"]),
        (BaseConsumer, "on_stop", ["self"]),
        (BaseConsumer, "perform_seek", ["self"]),
        (ThreadDelegateConsumer, "seek_wait", ["self", "partitions"]),
        (BaseConsumer, "commit", ["self", "topics", "start_new_transaction"]),
        (BaseConsumer, "stop_flow", ["self"]),
        (ThreadDelegateConsumer, "assignment", ["self"]),
        (Transport, "__init__", ["self", "args", "kwargs"]),
        (GroupCoordinator, "maybe_leave_group", ["self"]),
    ],
)
def test_a_method_that_we_replace_or_call_has_its_shape(owner: type, name: str, expected: list[str]) -> None:
    assert parameters(getattr(owner, name)) == expected


def test_the_commit_loop_asks_what_we_replace() -> None:
    """`_commit_tps` goes through the three methods that answer for our offsets."""
    commit = inspect.getsource(BaseConsumer.force_commit) + inspect.getsource(BaseConsumer._commit_tps)
    commit += inspect.getsource(BaseConsumer._filter_committable_offsets)
    for name in ("_filter_tps_with_pending_acks", "_new_offset", "_should_commit", "_commit_offsets"):
        assert f"self.{name}(" in commit


def test_a_message_is_built_from_these_fields() -> None:
    fields = parameters(ConsumerMessage.__init__)
    assert fields[:13] == [
        "self", "topic", "partition", "offset", "timestamp", "timestamp_type", "headers", "key", "value", "checksum",
        "serialized_key_size", "serialized_value_size", "tp",
    ]  # fmt: skip
    assert "generation_id" in fields


def test_a_seek_drops_what_was_fetched_before_it_also_that_there_is_no_committed_offset() -> None:
    """A group that commits nothing gets that error with each assignment, before it is told where to begin."""
    assert "del self._records[tp]" in inspect.getsource(fetcher.Fetcher.seek_to)
    assert "consumer.perform_seek()" in inspect.getsource(Recovery._resume_streams)


def test_aiokafka_reads_its_isolation_level_at_start() -> None:
    assert "self._isolation_level" in inspect.getsource(AIOKafkaConsumer.start)


def test_aiokafka_reads_how_long_a_fetch_waits_at_start() -> None:
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in inspect.getsource(AIOKafkaConsumer.start)


def test_a_fetched_slice_is_unpacked_by_the_class_that_we_put_in_its_place() -> None:
    stock = fetcher.PartitionRecords
    assert SliceRecords.__bases__ == (stock,)
    assert parameters(stock._consumer_record) == ["self", "tp", "record"]
    assert "self._consumer_record(" in inspect.getsource(stock)
    assert "return next(self._records_iterator)" in inspect.getsource(stock.__next__)
    assert "for msg in self._partition_records:" in inspect.getsource(fetcher.FetchResult.getall)
    unpacking = inspect.getsource(fetcher.Fetcher._proc_fetch_request)
    assert "PartitionRecords(" in unpacking
    assert "records = MemoryRecords(part_data[-1])" in unpacking


def test_a_position_beyond_the_log_is_raised_with_its_partition() -> None:
    unpacking = inspect.getsource(fetcher.Fetcher._proc_fetch_request)
    assert "Errors.OffsetOutOfRangeError({tp: fetch_offset})" in unpacking
    assert parameters(AIOKafkaConsumer.pause) == ["self", "partitions"]


def test_offsets_are_committed_through_the_method_that_we_put_marks_into() -> None:
    committing = inspect.getsource(AIOKafkaConsumerThread._commit)
    assert 'OffsetAndMetadata(offset, "")' in committing
    assert "await consumer.commit(aiokafka_offsets)" in committing


def test_the_leader_epoch_of_each_fetched_batch_is_known() -> None:
    one, other = batch_of(epoch=7, offset=5), batch_of(epoch=9, offset=6)
    records = RecordBatches(one + other)
    found = []
    while records.has_next():
        assert records.next_batch().base_offset == 5 + len(found)
        found.append(records.epoch)
    assert found == [7, 9]
    assert records.next_batch() is None


def batch_of(*, epoch: int, offset: int) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=1000,
    )  # fmt: skip
    builder.append(0, timestamp=0, key=None, value=b"v", headers=[])
    made = builder.build()
    return struct.pack(">q", offset) + bytes(made[8:12]) + struct.pack(">i", epoch) + bytes(made[16:])


def test_what_was_fetched_is_handed_out_by_the_class_that_we_put_in_its_place() -> None:
    stock = fetcher.FetchResult
    assert SliceResult.__bases__ == (stock,)
    assert parameters(stock.getall) == ["self", "max_records"]
    assert parameters(stock.check_assignment) == ["self", "tp"]
    assert {"_update_position", "has_more"} <= set(dir(stock))
    assert "self._partition_records.next_fetch_offset" in inspect.getsource(stock._update_position)
    fetch = inspect.getsource(fetcher.Fetcher)
    for use in (" FetchResult(", "type(res_or_error) is FetchResult", "res_or_error.getall(max_records)"):
        assert use in fetch


def test_batches_are_inflated_by_the_functions_that_we_put_in_their_place() -> None:
    batches = sys.modules[DefaultRecordBatch.__module__]
    assert all(hasattr(batches, name) for name in INFLATE)
    assert {"base_offset", "next_offset", "max_timestamp"} <= set(dir(DefaultRecordBatch))


def test_a_position_can_be_read() -> None:
    state = subscription_state.TopicPartitionState
    assert {"has_valid_position", "position"} <= set(dir(state))
    assert hasattr(subscription_state.Assignment, "state_value")
    assert hasattr(subscription_state.SubscriptionState, "subscription")


def test_a_crash_is_known_by_its_event() -> None:
    assert "self._crashed.set()" in inspect.getsource(Service.crash) + inspect.getsource(Service._crash)


def test_a_commit_under_way_is_known_by_its_future() -> None:
    """Beside it `commit` does nothing, and `_commit_last` waits for it by that name."""
    assert BaseConsumer._commit_fut is None
    assert "self._commit_fut = asyncio.Future" in inspect.getsource(BaseConsumer.commit)


def test_streams_are_the_compiled_ones() -> None:
    """The pure Python path acknowledges events of an old generation unprocessed."""
    assert faust.streams._CStreamIterator is not None
