"""What a group has committed: the fake that unit tests follow answers as Kafka does."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from secrets import token_hex

import pytest
from confluent_kafka import TopicPartition

from deploy.admin import topics
from gateway.kafka.followers import Committed, CommittedOffsets
from schemas.kafka.places import Partition
from schemas.kafka.positions import Position
from schemas.runs.topics import PERSISTENCE, RUN_EVENTS
from tests.support.fakes import MemoryCommitted
from tests.support.stack import RunningStack

PARTITIONS = 8


@dataclass(frozen=True, slots=True)
class Case:
    """The port, and how the group behind it commits."""

    committed: Committed
    commit: Callable[[Mapping[int, int]], None]

    def offsets(self) -> Mapping[int, int | None]:
        """Return the committed offset in each partition of run.events."""
        read = self.committed.read()
        assert all(isinstance(each, Position) and isinstance(place, Partition) for place, each in read.items())
        return {place.partition: each.offset for place, each in read.items() if place.topic == RUN_EVENTS.name}


@pytest.fixture(params=["memory", "kafka"])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    """Return a group that has committed nothing."""
    if request.param == "memory":
        memory = MemoryCommitted(dict.fromkeys(range(PARTITIONS)))
        yield Case(memory, memory.offsets.update)
        return
    stack: RunningStack = request.getfixturevalue("stack")
    group = PERSISTENCE.replaying(f"contract-{token_hex(4)}")

    def commit(offsets: Mapping[int, int]) -> None:
        places = [TopicPartition(RUN_EVENTS.name, partition, offset) for partition, offset in offsets.items()]
        topics.commit(stack.kafka, group, places)

    committed = CommittedOffsets(stack.kafka, group)
    yield Case(committed, commit)
    committed.close()


def test_a_group_that_has_committed_nothing_is_nowhere(case: Case) -> None:
    assert case.offsets() == dict.fromkeys(range(PARTITIONS))


def test_what_is_committed_is_read_and_read_again(case: Case) -> None:
    case.commit({0: 5, 3: 7})
    nowhere = dict.fromkeys(range(PARTITIONS))
    assert case.offsets() == {**nowhere, 0: 5, 3: 7}
    case.commit({3: 9})
    assert case.offsets() == {**nowhere, 0: 5, 3: 9}
