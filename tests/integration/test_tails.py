"""The ends of partitions, read from the real log."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping

import pytest

from gateway.runs.sequence.memory import RunState
from gateway.runs.sequence.tail import PartitionTail
from gateway.runs.sequence.tail_reader import TailReader
from schemas.access.credentials import CredentialsFile, FileCredentials
from tests.faults.records import good, new_run, produce
from tests.support.builders import TENANT
from tests.support.stack import RunningStack

EACH = 700  # more than the client is asked for at once
READ_TIMEOUT_S = 30.0  # the second that a read has may be too little on a busy machine


@pytest.fixture
async def reader(stack: RunningStack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TailReader]:
    monkeypatch.setattr("gateway.runs.sequence.tail_reader.READ_TIMEOUT_S", READ_TIMEOUT_S)
    async with TailReader(stack.kafka) as opened:
        yield opened


def tail_of(stack: RunningStack, partition: int, *, records_max: int = 100_000) -> PartitionTail:
    """Return a tail of which nothing was read."""
    credentials = FileCredentials(CredentialsFile(stack.folder / "credentials.toml"))
    return PartitionTail(partition, records_max=records_max, credentials=credentials)


def write(stack: RunningStack, partitions: range, *, count: int) -> Mapping[int, str]:
    """Return a run of so many events in each of *partitions*."""
    runs = {partition: new_run() for partition in partitions}
    for partition, run_id in runs.items():
        produce(stack, run_id, [good(stack, run_id, seq) for seq in range(1, count + 1)], partition=partition)
    return runs


async def read_whole(reader: TailReader, tails: Collection[PartitionTail]) -> None:
    """Read what tests before this one have written; all of it may take longer than one read has."""
    async with asyncio.timeout(60):
        while len(await reader.extend(tails, stored_to={})) < len(tails):
            pass


def head(tail: PartitionTail, run_id: str) -> int:
    """Return the last seq that *tail* holds of a run."""
    found = tail.add_to(RunState(), (TENANT, run_id), [])
    assert found is not None
    return found.head


async def test_all_partitions_are_read_to_their_ends_in_one_go(stack: RunningStack, reader: TailReader) -> None:
    partitions = range(await reader.partitions())
    tails = {partition: tail_of(stack, partition) for partition in partitions}
    await read_whole(reader, tails.values())
    count = EACH // len(partitions)
    runs = write(stack, partitions, count=count)
    assert await reader.extend(tails.values(), stored_to={}) == set(partitions)
    assert [head(tails[each], runs[each]) for each in partitions] == [count] * len(partitions)


async def test_a_tail_without_room_leaves_the_others_read_and_goes_on_when_the_store_has_more(
    stack: RunningStack, reader: TailReader
) -> None:
    begun = {partition: tail_of(stack, partition) for partition in (0, 1)}
    await read_whole(reader, begun.values())
    starts = {partition: tail.end for partition, tail in begun.items()}
    runs = write(stack, range(2), count=EACH)
    tails = [tail_of(stack, 0, records_max=10), tail_of(stack, 1)]
    assert await reader.extend(tails, stored_to=starts) == {1}
    assert (head(tails[0], runs[0]), head(tails[1], runs[1])) == (10, EACH)
    assert await reader.extend(tails, stored_to={0: starts[0] + EACH - 5}) == {0, 1}
    assert head(tails[0], runs[0]) == EACH
