"""Batches gathered from slices: what cuts them, and what of them is finished. The simulation has the faults."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.runtime.batch import Batch, Slice
from processors.runtime.gathering import Bounds, GatheringLanes
from schemas.kafka.places import Partition
from tests.simulation.turns import Turns
from tests.support.builders import Raw

PARTITION = Partition("run.events", 1)
BOUNDS = Bounds(records_max=4, bytes_max=100, seconds_max=1.0)


def fetched(*offsets: int, size_bytes: int = 1, epoch: int = 3) -> Slice:
    """Return a slice of records whose values have *size_bytes*."""
    records = Slice(Raw(offset=offset, value=b"x" * size_bytes, epoch=epoch) for offset in offsets)  # type: ignore[misc]
    records.size_bytes = size_bytes * len(offsets)
    return records


class Lane:
    """One lane on a loop without a clock; its work ends at once."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.worked: list[list[int]] = []
        self.finished: list[Batch] = []
        self.lanes = GatheringLanes(
            self._work, bounds=BOUNDS, finished=self.finished.append, fatal=lambda error: pytest.fail(repr(error))
        )

    def dispatch(self, *slices: Slice) -> None:
        """Hand *slices* over, and let the lane come to wait."""
        self.turns.run(lambda: [self.lanes.dispatch(Batch(PARTITION, each)) for each in slices])

    def pass_time(self) -> None:
        self.turns.run(self.turns.pass_time)

    def give_up(self) -> None:
        self.turns.run(lambda: self.turns.create_task(self._drain()))

    async def _drain(self) -> None:
        assert await self.lanes.drain([PARTITION], timeout_s=5.0)

    async def _work(self, batch: Batch) -> None:
        assert [record.offset for each in batch.slices for record in each.records] == _offsets(batch)
        self.worked.append(_offsets(batch))


def _offsets(batch: Batch) -> list[int]:
    return [record.offset for record in batch.records]


@pytest.fixture
def lane() -> Iterator[Lane]:
    made = Lane()
    yield made
    made.turns.end()


def test_a_batch_is_cut_when_it_is_full(lane: Lane) -> None:
    lane.dispatch(fetched(0, 1))
    assert lane.worked == []
    lane.dispatch(fetched(2, 3))
    assert lane.worked == [[0, 1, 2, 3]]
    assert [each.end_offset for each in lane.finished[0].slices] == [2, 4]


def test_a_batch_ends_at_a_multiple_of_its_size(lane: Lane) -> None:
    """So that what follows is cut alike, wherever the partition was taken up."""
    lane.dispatch(fetched(2), fetched(3))
    assert lane.worked == [[2, 3]]
    lane.dispatch(fetched(4, 5), fetched(6, 7))
    assert lane.worked == [[2, 3], [4, 5, 6, 7]]


def test_a_slice_that_begins_beyond_a_multiple_begins_the_next_batch(lane: Lane) -> None:
    """The log has holes: markers of transactions take offsets, and so do records that were compacted away."""
    lane.dispatch(fetched(1, 2), fetched(4))
    assert lane.worked == [[1, 2]]
    lane.dispatch(fetched(5, 7))
    assert lane.worked == [[1, 2], [4, 5, 7]]


def test_bytes_cut_a_batch_as_records_do(lane: Lane) -> None:
    lane.dispatch(fetched(0, size_bytes=60), fetched(1, size_bytes=50))
    assert lane.worked == [[0]]
    lane.dispatch(fetched(2, size_bytes=50))
    assert lane.worked == [[0], [1, 2]]


def test_time_cuts_a_batch_without_another_record(lane: Lane) -> None:
    lane.dispatch(fetched(0), fetched(1))
    assert lane.worked == []
    lane.pass_time()
    assert lane.worked == [[0, 1]]


def test_the_time_counts_from_when_the_first_record_came(lane: Lane) -> None:
    """Also where it came while the batch before was in work, or did not fit into that."""
    lane.dispatch(fetched(0, 1, 2), fetched(4))
    lane.dispatch(fetched(5))
    lane.pass_time()
    assert lane.worked == [[0, 1, 2], [4, 5]]
    assert lane.turns.time() == BOUNDS.seconds_max


def test_what_is_gathered_is_worked_when_the_partition_is_given_up(lane: Lane) -> None:
    lane.dispatch(fetched(0), fetched(1))
    lane.give_up()
    assert lane.worked == [[0, 1]]
    assert lane.turns.time() == 0.0


def test_a_batch_has_records_of_one_leader(lane: Lane) -> None:
    """The log is compared with the position where a batch begins, and only if the leader is another one."""
    lane.dispatch(fetched(0), fetched(1, epoch=4))
    assert lane.worked == [[0]]
    lane.give_up()
    assert lane.worked == [[0], [1]]


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([1], [[0]]),
        ([1] * 4, [[0, 1, 2, 3]]),
        ([1] * 9, [[0, 1, 2, 3], [4, 5, 6, 7], [8]]),
        ([60, 60, 40, 1, 1], [[0], [1, 2], [3], [4]]),
        ([500, 1, 500], [[0], [1], [2]]),
    ],
)
def test_a_slice_beyond_the_bounds_comes_in_parts(sizes: Sequence[int], parts: Sequence[Sequence[int]]) -> None:
    records = Slice(Raw(offset=offset, value=b"x" * size) for offset, size in enumerate(sizes))  # type: ignore[misc]
    found = BOUNDS.parts(records)
    assert [[record.offset for record in part] for part in found] == parts
    assert sum(part.size_bytes for part in found) == sum(sizes)


@given(first=st.integers(0, 20), cuts=st.sets(st.integers(1, 40)), again=st.sets(st.integers(1, 40)))
def test_full_batches_are_the_same_however_the_log_is_fetched(first: int, cuts: set[int], again: set[int]) -> None:
    offsets = range(first, first + 41)
    assert _full(_batches(offsets, cuts)) == _full(_batches(offsets, again))


def _batches(offsets: Sequence[int], cuts: set[int]) -> list[list[int]]:
    """Return the batches of records at *offsets*, fetched in slices that are cut at *cuts*."""
    lane, edges = Lane(), [0, *sorted(each for each in cuts if each < len(offsets)), len(offsets)]
    try:
        for begin, end in pairwise(edges):
            lane.dispatch(*BOUNDS.parts(fetched(*offsets[begin:end])))
        return lane.worked
    finally:
        lane.turns.end()


def _full(batches: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    return [batch for batch in batches if len(batch) == BOUNDS.records_max]
