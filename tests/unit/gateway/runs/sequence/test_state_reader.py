"""One look serves all who ask, whatever their partitions; what cannot be read of one leaves the others alone."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping

import pytest

from gateway.kafka.followers import GroupFollower
from gateway.runs.sequence import state_reader as looks_module
from gateway.runs.sequence.state_reader import RunStateReader
from gateway.runs.sequence.tail import PartitionTail
from schemas.kafka.partitioner import partition_of
from schemas.runs.topics import PERSISTENCE
from tests.support import builders
from tests.support.fakes import InForce, MemoryCommitted, MemoryRunStore
from tests.unit.gateway.runs.sequence.conftest import NOW, prepared

PARTITIONS = 4
RUNS = {partition_of(b"run-%d" % number, PARTITIONS): f"run-{number}" for number in range(40)}  # one a partition
RETRY_DELAY_S = 0.5  # longer than a busy machine needs for a few turns


class Ends:
    """The empty ends of some partitions; those of `unread` take too long."""

    def __init__(self) -> None:
        self.unread: set[int] = set()
        self.reads: list[frozenset[int]] = []

    async def partitions(self) -> int:
        return PARTITIONS

    async def extend(self, tails: Collection[PartitionTail], *, stored_to: Mapping[int, int]) -> frozenset[int]:
        assert set(stored_to) == set(RUNS)
        await asyncio.sleep(0.01)
        self.reads.append(frozenset(tail.partition for tail in tails))
        return self.reads[-1] - self.unread


@pytest.fixture
def ends() -> Ends:
    return Ends()


@pytest.fixture
async def states(ends: Ends) -> AsyncIterator[RunStateReader]:
    committed = MemoryCommitted(dict.fromkeys(RUNS, 0))
    async with GroupFollower(PERSISTENCE, committed, clock=lambda: NOW) as follower:
        store = MemoryRunStore(builders.TENANT)
        async with RunStateReader(
            tails=ends, store=store, follower=follower, credentials=InForce(builders.credentials())
        ) as made:
            yield made


async def known(states: RunStateReader, partition: int, *, events: int = 1) -> bool:
    """Return whether a look tells of the run in *partition*."""
    asked = [prepared(seq, run_id=RUNS[partition]).identity for seq in range(1, events + 1)]
    return await states.read((builders.TENANT, RUNS[partition]), asked) is not None


async def test_one_read_serves_all_partitions(states: RunStateReader, ends: Ends) -> None:
    found = await asyncio.gather(*[known(states, partition) for partition in RUNS for _ in range(10)])
    assert all(found)
    assert ends.reads == [frozenset(RUNS)]


async def test_a_request_during_a_read_waits_for_the_next(states: RunStateReader, ends: Ends) -> None:
    first = asyncio.create_task(known(states, 0))
    await asyncio.sleep(0.005)
    assert await known(states, 0)
    assert await first
    assert ends.reads == [frozenset({0})] * 2


async def test_a_partition_that_takes_too_long_leaves_the_others_known(
    states: RunStateReader, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks_module, "RETRY_DELAY_S", RETRY_DELAY_S)
    ends.unread = {1}
    assert await asyncio.gather(*[known(states, partition) for partition in (0, 1, 2)]) == [True, False, True]
    assert not await known(states, 1)
    assert len(ends.reads) == 1, "it is not read again for each who asks"
    assert await known(states, 3)
    ends.unread = set()
    await asyncio.sleep(2 * RETRY_DELAY_S)
    assert await known(states, 1)


async def test_more_than_one_read_can_answer_is_left_to_the_next(
    states: RunStateReader, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks_module, "EVENTS_MAX", 5)
    assert all(await asyncio.gather(*[known(states, partition, events=3) for partition in (0, 1, 2, 3)]))
    assert ends.reads == [frozenset({0, 1}), frozenset({2, 3})]
