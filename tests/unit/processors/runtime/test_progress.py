"""What may be committed: never more than the finished prefix, whatever happens in between."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from processors.runtime.batch import Batch
from processors.runtime.progress import BATCHES_MAX, BYTES_MAX, TOTAL_BYTES_MAX, Progress
from schemas.kafka.places import Partition
from tests.support.builders import Raw

TP = Partition("run.events", 0)
OTHER = Partition("run.events", 1)


def batch(first: int, count: int = 1, *, partition: Partition = TP, size_bytes: int = 1) -> Batch:
    return Batch(partition, [Raw(offset=first + index, value=b"x" * size_bytes) for index in range(count)])


def assigned(*partitions: Partition) -> Progress:
    progress = Progress()
    progress.assign(partitions or [TP])
    return progress


def test_nothing_is_committable_before_a_batch_is_finished() -> None:
    progress = assigned()
    progress.open(batch(0, 10))
    assert progress.committable(TP) is None
    assert progress.to_commit() == []


def test_a_group_that_commits_nothing_is_settled_when_its_batches_are_finished() -> None:
    progress = Progress(commits=False)
    progress.assign([TP])
    first = batch(5, 10)
    progress.open(first)
    assert not progress.settled()
    progress.finish(first)
    progress.pass_by(TP, 20, None)
    assert (progress.settled(), progress.to_commit(), progress.committable(TP)) == (True, [], None)


def test_all_partitions_together_are_bounded_and_each_may_have_one_batch() -> None:
    many = [Partition("run.events", number) for number in range(6)]
    progress = assigned(*many)
    sized = {partition: batch(0, partition=partition, size_bytes=TOTAL_BYTES_MAX // 4) for partition in many}
    for partition in many[:4]:
        progress.open(sized[partition])
    assert [progress.has_room(partition) for partition in many] == [False] * 4 + [True] * 2
    progress.finish(sized[many[0]])
    assert progress.has_room(many[1])
    progress.open(sized[many[4]])
    progress.forget(many[2:4])
    assert progress.has_room(many[1])


def test_a_finished_batch_is_committable_to_its_end() -> None:
    progress = assigned()
    first = batch(5, 10)
    progress.open(first)
    progress.finish(first)
    assert progress.committable(TP) == 15


def test_a_batch_behind_an_unfinished_one_waits_for_it() -> None:
    progress = assigned()
    first, second = batch(0, 10), batch(10, 10)
    progress.open(first)
    progress.open(second)
    progress.finish(second)
    assert progress.committable(TP) is None
    progress.finish(first)
    assert progress.committable(TP) == 20


def test_a_commit_is_dropped_only_once_it_succeeded() -> None:
    progress = assigned()
    first, second = batch(0), batch(1)
    for each in (first, second):
        progress.open(each)
    progress.finish(first)
    progress.finish(second)
    progress.committed(TP, 1)
    assert progress.committable(TP) == 2
    progress.committed(TP, 2)
    assert progress.to_commit() == []


def test_what_finishes_after_a_revocation_counts_for_nothing() -> None:
    progress = assigned()
    old = batch(0, 10)
    progress.open(old)
    progress.forget([TP])
    progress.finish(old)
    assert progress.committable(TP) is None
    progress.assign([TP])
    new = batch(0, 5)
    progress.open(new)
    progress.finish(old)
    assert progress.committable(TP) is None


def test_a_partition_that_is_not_ours_takes_nothing() -> None:
    progress = assigned(OTHER)
    assert not progress.open(batch(0))
    assert not progress.has_room(TP)


def test_a_partition_has_room_for_a_bounded_number_of_batches() -> None:
    progress = assigned(TP, OTHER)
    batches = [batch(offset) for offset in range(BATCHES_MAX)]
    for each in batches:
        assert progress.has_room(TP)
        progress.open(each)
    assert not progress.has_room(TP)
    assert progress.has_room(OTHER)
    progress.finish(batches[0])
    assert progress.has_room(TP)


def test_a_partition_has_room_for_a_bounded_number_of_bytes() -> None:
    progress = assigned()
    large = batch(0, size_bytes=BYTES_MAX)
    progress.open(large)
    assert not progress.has_room(TP)
    progress.finish(large)
    assert progress.has_room(TP)


def test_an_idle_partition_passes_by_what_holds_no_record() -> None:
    progress = assigned()
    progress.pass_by(TP, 7, committed=5)
    assert progress.committable(TP) == 7


def test_it_passes_nothing_by_while_a_batch_is_open() -> None:
    progress = assigned()
    progress.open(batch(5))
    progress.pass_by(TP, 7, committed=5)
    assert progress.committable(TP) is None


def test_it_does_not_go_back() -> None:
    progress = assigned()
    progress.pass_by(TP, 5, committed=5)
    assert progress.to_commit() == []


def test_it_is_settled_once_all_is_finished_and_committed() -> None:
    progress = assigned()
    assert progress.settled()
    only = batch(0)
    progress.open(only)
    assert not progress.settled()
    progress.finish(only)
    assert not progress.settled()
    progress.committed(TP, 1)
    assert progress.settled()


def test_what_is_dropped_with_work_left_is_remembered_until_the_next_is() -> None:
    progress = assigned(TP, OTHER)
    left, done = batch(0), batch(0, partition=OTHER)
    progress.open(left)
    left.begun = True
    progress.open(done)
    progress.finish(done)
    progress.committed(OTHER, 1)
    progress.forget([TP])
    assert progress.left_work
    progress.forget([])
    assert progress.left_work
    progress.forget([OTHER])
    assert not progress.left_work


def test_what_was_fetched_and_not_begun_is_no_work_left() -> None:
    """Faust drops what its stream holds when it stops; nobody has done anything with it."""
    progress = assigned(TP)
    progress.open(batch(0))
    progress.forget([TP])
    assert not progress.left_work


def test_what_is_finished_and_not_committed_is_work_left() -> None:
    progress = assigned(TP)
    only = batch(0)
    progress.open(only)
    progress.finish(only)
    progress.forget([TP])
    assert progress.left_work


class AnyOrder(RuleBasedStateMachine):
    """Batches open in log order, finish in any order, commits fail or not, partitions come and go."""

    batches = Bundle("batches")

    def __init__(self) -> None:
        super().__init__()
        self.progress = assigned()
        self.held = True
        self.next_offset = 0
        self.open: list[Batch] = []
        self.broker = 0

    @rule(target=batches, count=st.integers(1, 5))
    def fetch(self, count: int) -> Batch:
        fetched = batch(self.next_offset, count)
        if self.held and self.progress.has_room(TP):
            assert self.progress.open(fetched)
            self.open.append(fetched)
            self.next_offset += count
        return fetched

    @rule(done=batches)
    def finish(self, done: Batch) -> None:
        self.progress.finish(done)

    @rule(succeeds=st.booleans())
    def commit(self, succeeds: bool) -> None:
        offset = self.progress.committable(TP)
        if offset is not None and succeeds:
            assert offset > self.broker
            self.broker = offset
            self.progress.committed(TP, offset)

    @rule()
    def revoke(self) -> None:
        self.progress.forget([TP])
        self.held = False

    @rule()
    def assign(self) -> None:
        self.progress.assign([TP])
        self.held, self.open, self.next_offset = True, [], self.broker

    @invariant()
    def no_commit_passes_unfinished_work(self) -> None:
        offset = self.progress.committable(TP) or self.broker
        for each in self.open if self.held else []:
            assert each.finished or offset <= each.records[0].offset


AnyOrder.TestCase.settings = settings(max_examples=1000, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase
