"""Slices that are spooled: what puts them, what of them is finished, and what stays in memory."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.runtime.batch import Batch, Slice
from processors.runtime.offset_tracker import OffsetTracker
from processors.runtime.spooling import SECONDS_MIN_PART, SpoolingLanes, seconds_left
from schemas.kafka.places import Partition
from tests.simulation.turns import Turns
from tests.support.builders import Raw

PARTITION = Partition("run.events", 1)
SECONDS_MAX = 3600.0
NOW_S = 1_800_000_000.0


def fetched(*offsets: int, age_s: float = 0.0) -> Batch:
    """Return a slice of records that were written so long ago."""
    written_ms = int(1000 * (NOW_S - age_s))
    records = Slice(Raw(offset=offset, timestamp=written_ms) for offset in offsets)  # type: ignore[misc]
    records.size_bytes = len(offsets)
    return Batch(PARTITION, records)


class MemorySpool:
    """A spool that is full with four records; what was put, and what another worker had put before."""

    def __init__(self) -> None:
        self.seconds_max = SECONDS_MAX
        self.clock_s = lambda: NOW_S
        self.held: list[int] = []
        self.puts: list[list[int]] = []
        self.dropped = 0
        self.found_next = 0
        self.fails = False

    async def add(self, batch: Batch) -> None:
        self.held += [record.offset for record in batch.records]

    def is_full(self, partition: Partition) -> bool:
        assert partition == PARTITION
        return len(self.held) >= 4

    async def put(self, partition: Partition) -> int:
        assert partition == PARTITION
        if self.fails:
            raise RuntimeError
        self.puts.append(self.held)
        self.held = []
        return max(self.found_next, self.puts[-1][-1] + 1)

    def drop(self, partition: Partition) -> None:
        assert partition == PARTITION
        self.held = []
        self.dropped += 1


class Lane:
    """One lane on a loop without a clock."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.spool = MemorySpool()
        self.tracker = OffsetTracker(skips=False)
        self.tracker.assign([PARTITION])
        self.failures: list[BaseException] = []
        self.lanes = SpoolingLanes(
            self.spool.add,
            spool=self.spool,
            joined=self.tracker.join,
            finished=self.tracker.finish,
            fatal=self.failures.append,
        )

    def dispatch(self, *slices: Batch) -> None:
        """Hand *slices* over, and let the lane come to wait."""
        for each in slices:
            assert self.tracker.open(each)
        self.turns.run(lambda: [self.lanes.dispatch(each) for each in slices])

    def pass_time(self) -> None:
        self.turns.run(self.turns.pass_time)

    def give_up(self) -> None:
        self.turns.run(lambda: self.turns.create_task(self._give_up()))

    async def _give_up(self) -> None:
        assert await self.lanes.drain([PARTITION], timeout_s=5.0)
        await self.lanes.cancel([PARTITION])
        self.tracker.forget([PARTITION])


@pytest.fixture
def lane() -> Iterator[Lane]:
    made = Lane()
    yield made
    made.turns.end()


def test_a_full_spool_is_put_and_its_slices_are_finished_together(lane: Lane) -> None:
    lane.dispatch(fetched(0, 1), fetched(2))
    assert (lane.spool.puts, lane.tracker.committable(PARTITION)) == ([], None)
    lane.dispatch(fetched(3, 4))
    assert lane.spool.puts == [[0, 1, 2, 3, 4]]
    assert lane.tracker.committable(PARTITION) == 5


def test_time_puts_what_is_gathered_without_another_record(lane: Lane) -> None:
    """confluentinc/kafka-connect-storage-cloud#144: the time was looked at only when a record came."""
    lane.dispatch(fetched(0), fetched(1))
    lane.pass_time()
    assert lane.turns.time() == SECONDS_MAX
    assert lane.spool.puts == [[0, 1]]
    assert lane.tracker.committable(PARTITION) == 2


def test_nothing_is_put_where_nothing_was_gathered(lane: Lane) -> None:
    """Aiven-Open/gcs-connector-for-apache-kafka#347: empty objects, minute by minute."""
    lane.dispatch(fetched(0))
    lane.pass_time()
    lane.pass_time()
    assert lane.spool.puts == [[0]]


def test_what_waited_in_the_log_already_is_put_soon(lane: Lane) -> None:
    """A partition that changes hands before its time is up would never be put."""
    lane.dispatch(fetched(0, age_s=3000))
    lane.pass_time()
    assert (lane.turns.time(), lane.spool.puts) == (600.0, [[0]])


def test_what_is_spooled_takes_no_room(lane: Lane) -> None:
    for offset in range(3):
        lane.dispatch(fetched(offset))
        assert lane.tracker.has_room(PARTITION)
    slices = [fetched(10), fetched(11)]
    lane.spool.held = []
    lane.dispatch(*slices)
    assert [each.records for each in slices] == [(), ()]
    assert not lane.tracker.settled()


def test_what_is_gathered_is_dropped_when_the_partition_is_given_up(lane: Lane) -> None:
    lane.dispatch(fetched(0), fetched(1))
    lane.give_up()
    assert (lane.spool.puts, lane.spool.held, lane.spool.dropped) == ([], [], 1)
    assert not lane.tracker.left_work, "it is as if it had not been read"


def test_a_put_that_reaches_further_is_committed_and_what_follows_does_not_go_back(lane: Lane) -> None:
    lane.spool.found_next = 9
    lane.dispatch(fetched(0, 1, 2, 3))
    assert lane.tracker.committable(PARTITION) == 9
    lane.tracker.committed(PARTITION, 9)
    lane.dispatch(fetched(4, 5, 6, 7))
    assert lane.tracker.to_commit() == []
    lane.dispatch(fetched(8, 9, 10, 11))
    assert lane.tracker.committable(PARTITION) == 12


def test_an_error_ends_the_process_and_finishes_nothing(lane: Lane) -> None:
    lane.spool.fails = True
    lane.dispatch(fetched(0, 1, 2, 3))
    assert [type(each) for each in lane.failures] == [RuntimeError]
    assert lane.tracker.committable(PARTITION) is None


@given(age_s=st.floats(-1e9, 1e12))
def test_the_time_left_is_bounded_whatever_timestamps_say(age_s: float) -> None:
    assert SECONDS_MAX * SECONDS_MIN_PART <= seconds_left(SECONDS_MAX, age_s=age_s) <= SECONDS_MAX
