"""Following a group: progress as it is seen, and many that wait on one who asks."""

import asyncio
from datetime import timedelta

import pytest
from confluent_kafka import KafkaError, KafkaException

from gateway.errors import LogUnavailable
from gateway.kafka.followers import GroupFollower, PartitionProgress
from schemas.kafka.places import RecordPlace
from schemas.runs.topics import PERSISTENCE
from tests.support.fakes import MemoryCommitted
from tests.unit.gateway.conftest import NOW

WAIT_S = 5.0


def place(offset: int, partition: int = 0) -> RecordPlace:
    return RecordPlace("run.events", partition, offset)


async def test_a_wait_ends_when_the_group_has_passed_the_record() -> None:
    """Committed is the next offset to read: at the record's own offset it is not done."""
    committed = MemoryCommitted({0: 7})
    async with GroupFollower(PERSISTENCE, committed, clock=lambda: NOW) as follower:
        assert await follower.wait_past(place(6), timeout_s=WAIT_S)
        assert not await follower.wait_past(place(7), timeout_s=0.01)
        assert not await follower.wait_past(place(0, partition=1), timeout_s=0.01)
        waiting = asyncio.create_task(follower.wait_past(place(7), timeout_s=WAIT_S))
        committed.offsets[0] = 8
        assert await waiting


async def test_one_who_asks_serves_all_who_wait() -> None:
    committed = MemoryCommitted({0: 0})
    async with GroupFollower(PERSISTENCE, committed, clock=lambda: NOW) as follower:
        waits = [asyncio.create_task(follower.wait_past(place(0), timeout_s=WAIT_S)) for _ in range(500)]
        await asyncio.sleep(0)
        committed.offsets[0] = 1
        assert all(await asyncio.gather(*waits))
    assert committed.reads < 10


async def test_too_many_that_wait_are_told_at_once() -> None:
    committed = MemoryCommitted({0: 0})
    async with GroupFollower(PERSISTENCE, committed, clock=lambda: NOW, waiters_max=1) as follower:
        first = asyncio.create_task(follower.wait_past(place(0), timeout_s=WAIT_S))
        await asyncio.sleep(0)
        assert not await follower.wait_past(place(0), timeout_s=WAIT_S)
        committed.offsets[0] = 1
        assert await first


async def test_progress_tells_when_each_partition_went_on() -> None:
    """What was committed before the first look is no progress that anyone has seen."""
    committed, now = MemoryCommitted({0: 3, 1: None}), NOW
    async with GroupFollower(PERSISTENCE, committed, clock=lambda: now) as follower:
        assert await follower.wait_past(place(2), timeout_s=WAIT_S)
        assert follower.progress()[0] == PartitionProgress(committed=3, moved_at=None)
        assert follower.progress()[1] == PartitionProgress(committed=None, moved_at=None)
        now += timedelta(seconds=5)
        committed.offsets[0] = 4
        assert await follower.wait_past(place(3), timeout_s=WAIT_S)
        assert follower.progress()[0] == PartitionProgress(committed=4, moved_at=now)


async def test_a_log_that_does_not_tell_is_unavailable_and_comes_back() -> None:
    committed = MemoryCommitted({0: 1}, failure=KafkaException(KafkaError(KafkaError._TRANSPORT)))
    async with GroupFollower(PERSISTENCE, committed, clock=lambda: NOW) as follower:
        assert not await follower.wait_past(place(0), timeout_s=0.01)
        with pytest.raises(LogUnavailable):
            follower.progress()
        committed.failure = None
        assert await follower.wait_past(place(0), timeout_s=WAIT_S)
        assert follower.progress()[0].committed == 1
