"""What may be committed: never more than the finished prefix, whatever happens in between."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from processors.runtime.batch import Batch
from processors.runtime.offset_tracker import BATCHES_MAX, BYTES_MAX, TOTAL_BYTES_MAX, OffsetTracker
from schemas.kafka.places import Partition
from tests.support.builders import Raw

TP = Partition("run.events", 0)
OTHER = Partition("run.events", 1)


def batch(first: int, count: int = 1, *, partition: Partition = TP, size_bytes: int = 1) -> Batch:
    return Batch(partition, [Raw(offset=first + index, value=b"x" * size_bytes) for index in range(count)])


def assigned(*partitions: Partition) -> OffsetTracker:
    tracker = OffsetTracker()
    tracker.assign(partitions or [TP])
    return tracker


def test_nothing_is_committable_before_a_batch_is_finished() -> None:
    tracker = assigned()
    tracker.open(batch(0, 10))
    assert tracker.committable(TP) is None
    assert tracker.to_commit() == []


def test_a_group_that_commits_nothing_is_settled_when_its_batches_are_finished() -> None:
    tracker = OffsetTracker(commits=False)
    tracker.assign([TP])
    first = batch(5, 10)
    tracker.open(first)
    assert not tracker.settled()
    tracker.finish(first)
    tracker.skip_to(TP, 20, None)
    assert (tracker.settled(), tracker.to_commit(), tracker.committable(TP)) == (True, [], None)


def test_all_partitions_together_are_bounded_and_each_may_have_one_batch() -> None:
    many = [Partition("run.events", number) for number in range(6)]
    tracker = assigned(*many)
    sized = {partition: batch(0, partition=partition, size_bytes=TOTAL_BYTES_MAX // 4) for partition in many}
    for partition in many[:4]:
        tracker.open(sized[partition])
    assert [tracker.has_room(partition) for partition in many] == [False] * 4 + [True] * 2
    tracker.finish(sized[many[0]])
    assert tracker.has_room(many[1])
    tracker.open(sized[many[4]])
    tracker.forget(many[2:4])
    assert tracker.has_room(many[1])


def test_a_finished_batch_is_committable_to_its_end() -> None:
    tracker = assigned()
    first = batch(5, 10)
    tracker.open(first)
    tracker.finish(first)
    assert tracker.committable(TP) == 15


def test_a_batch_behind_an_unfinished_one_waits_for_it() -> None:
    tracker = assigned()
    first, second = batch(0, 10), batch(10, 10)
    tracker.open(first)
    tracker.open(second)
    tracker.finish(second)
    assert tracker.committable(TP) is None
    tracker.finish(first)
    assert tracker.committable(TP) == 20


def test_a_commit_is_dropped_only_once_it_succeeded() -> None:
    tracker = assigned()
    first, second = batch(0), batch(1)
    for each in (first, second):
        tracker.open(each)
    tracker.finish(first)
    tracker.finish(second)
    tracker.committed(TP, 1)
    assert tracker.committable(TP) == 2
    tracker.committed(TP, 2)
    assert tracker.to_commit() == []


def test_what_finishes_after_a_revocation_counts_for_nothing() -> None:
    tracker = assigned()
    old = batch(0, 10)
    tracker.open(old)
    tracker.forget([TP])
    tracker.finish(old)
    assert tracker.committable(TP) is None
    tracker.assign([TP])
    new = batch(0, 5)
    tracker.open(new)
    tracker.finish(old)
    assert tracker.committable(TP) is None


def test_a_partition_that_is_not_ours_takes_nothing() -> None:
    tracker = assigned(OTHER)
    assert not tracker.open(batch(0))
    assert not tracker.has_room(TP)


def test_a_partition_has_room_for_a_bounded_number_of_batches() -> None:
    tracker = assigned(TP, OTHER)
    batches = [batch(offset) for offset in range(BATCHES_MAX)]
    for each in batches:
        assert tracker.has_room(TP)
        tracker.open(each)
    assert not tracker.has_room(TP)
    assert tracker.has_room(OTHER)
    tracker.finish(batches[0])
    assert tracker.has_room(TP)


def test_a_partition_has_room_for_a_bounded_number_of_bytes() -> None:
    tracker = assigned()
    large = batch(0, size_bytes=BYTES_MAX)
    tracker.open(large)
    assert not tracker.has_room(TP)
    tracker.finish(large)
    assert tracker.has_room(TP)


def test_an_idle_partition_passes_by_what_holds_no_record() -> None:
    tracker = assigned()
    tracker.skip_to(TP, 7, committed=5)
    assert tracker.committable(TP) == 7


def test_it_passes_nothing_by_while_a_batch_is_open() -> None:
    tracker = assigned()
    tracker.open(batch(5))
    tracker.skip_to(TP, 7, committed=5)
    assert tracker.committable(TP) is None


def test_it_does_not_go_back() -> None:
    tracker = assigned()
    tracker.skip_to(TP, 5, committed=5)
    assert tracker.to_commit() == []


def test_it_is_settled_once_all_is_finished_and_committed() -> None:
    tracker = assigned()
    assert tracker.settled()
    only = batch(0)
    tracker.open(only)
    assert not tracker.settled()
    tracker.finish(only)
    assert not tracker.settled()
    tracker.committed(TP, 1)
    assert tracker.settled()


def test_what_is_dropped_with_work_left_is_remembered_until_the_next_is() -> None:
    tracker = assigned(TP, OTHER)
    left, done = batch(0), batch(0, partition=OTHER)
    tracker.open(left)
    left.begun = True
    tracker.open(done)
    tracker.finish(done)
    tracker.committed(OTHER, 1)
    tracker.forget([TP])
    assert tracker.left_work
    tracker.forget([])
    assert tracker.left_work
    tracker.forget([OTHER])
    assert not tracker.left_work


def test_what_was_fetched_and_not_begun_is_no_work_left() -> None:
    """Faust drops what its stream holds when it stops; nobody has done anything with it."""
    tracker = assigned(TP)
    tracker.open(batch(0))
    tracker.forget([TP])
    assert not tracker.left_work


def test_what_is_finished_and_not_committed_is_work_left() -> None:
    tracker = assigned(TP)
    only = batch(0)
    tracker.open(only)
    tracker.finish(only)
    tracker.forget([TP])
    assert tracker.left_work


class AnyOrder(RuleBasedStateMachine):
    """Batches open in log order, finish in any order, commits fail or not, partitions come and go."""

    batches = Bundle("batches")

    def __init__(self) -> None:
        super().__init__()
        self.tracker = assigned()
        self.held = True
        self.next_offset = 0
        self.open: list[Batch] = []
        self.broker = 0

    @rule(target=batches, count=st.integers(1, 5))
    def fetch(self, count: int) -> Batch:
        fetched = batch(self.next_offset, count)
        if self.held and self.tracker.has_room(TP):
            assert self.tracker.open(fetched)
            self.open.append(fetched)
            self.next_offset += count
        return fetched

    @rule(done=batches)
    def finish(self, done: Batch) -> None:
        self.tracker.finish(done)

    @rule(succeeds=st.booleans())
    def commit(self, succeeds: bool) -> None:
        offset = self.tracker.committable(TP)
        if offset is not None and succeeds:
            assert offset > self.broker
            self.broker = offset
            self.tracker.committed(TP, offset)

    @rule()
    def revoke(self) -> None:
        self.tracker.forget([TP])
        self.held = False

    @rule()
    def assign(self) -> None:
        self.tracker.assign([TP])
        self.held, self.open, self.next_offset = True, [], self.broker

    @invariant()
    def no_commit_passes_unfinished_work(self) -> None:
        offset = self.tracker.committable(TP) or self.broker
        for each in self.open if self.held else []:
            assert each.finished or offset <= each.records[0].offset


AnyOrder.TestCase.settings = settings(max_examples=1000, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase
