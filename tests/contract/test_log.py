"""The log's reading side: the fake that unit tests of receipts look into answers as Kafka does."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer

from gateway.kafka.reader import Edges, Log, LogReader, LogRecord
from schemas.kafka.clients import producer_config
from schemas.kafka.places import RecordPlace
from schemas.runs.topics import PERSISTENCE, RUN_EVENTS
from tests.faults.records import WITHIN_S, new_run
from tests.support.fakes import MemoryLog
from tests.support.stack import RunningStack

TOPIC, PARTITION = RUN_EVENTS.name, 0
NOBODY_ASKS_FOR = 10**15  # an offset that no log of a test reaches


@dataclass(frozen=True, slots=True)
class Case:
    """The port, and how a record is appended to the partition; both return its place."""

    log: Log
    append: Callable[[bytes, bytes], RecordPlace]


@pytest.fixture(params=["memory", "kafka"])
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    """Return a log that holds what other tests have written."""
    if request.param == "memory":
        memory = MemoryLog()

        def keep(key: bytes, value: bytes) -> RecordPlace:
            place = RecordPlace(TOPIC, PARTITION, memory.edges_of.end)
            memory.edges_of = Edges(first=memory.edges_of.first, end=memory.edges_of.end + 1)
            memory.records[place] = LogRecord(
                place=place, written_at=datetime.now(UTC), key=key, value=value, headers=[]
            )
            return place

        yield Case(memory, keep)
        return
    stack: RunningStack = request.getfixturevalue("stack")

    def produce(key: bytes, value: bytes) -> RecordPlace:
        offsets: list[int] = []
        producer = Producer(producer_config(stack.kafka, client_id="contract"))
        producer.produce(
            TOPIC, value, key, partition=PARTITION, on_delivery=lambda _, message: offsets.append(message.offset() or 0)
        )
        assert producer.flush(WITHIN_S) == 0
        return RecordPlace(TOPIC, PARTITION, offsets[0])

    async with LogReader(stack.kafka) as reader:
        yield Case(reader, produce)


async def test_a_record_is_found_at_its_place(case: Case) -> None:
    key = new_run().encode()
    place = case.append(key, b"no event")
    entry = await case.log.entry(place)
    assert entry is not None
    assert entry.record is not None
    assert (entry.record.place, entry.record.key, entry.record.value) == (place, key, b"no event")
    assert entry.edges.first <= place.offset < entry.edges.end
    assert (entry.undecided, entry.edges.undecided) == (False, 0)


async def test_where_nothing_was_written_nothing_is_found(case: Case) -> None:
    last = case.append(new_run().encode(), b"no event")
    for place in (
        RecordPlace(TOPIC, PARTITION, last.offset + NOBODY_ASKS_FOR),
        RecordPlace(TOPIC, 10**6, 0),
    ):
        assert await case.log.entry(place) is None


async def test_the_edges_enclose_what_was_written(case: Case) -> None:
    before = (await case.log.edges(TOPIC))[PARTITION]
    place = case.append(new_run().encode(), b"no event")
    after = (await case.log.edges(TOPIC))[PARTITION]
    assert before.end <= place.offset < after.end
    assert after.first == before.first


async def test_a_record_has_its_time(case: Case) -> None:
    place = case.append(new_run().encode(), b"no event")
    found = await case.log.written_at([place])
    assert found.keys() == {place}
    assert abs((datetime.now(UTC) - found[place]).total_seconds()) < 600


async def test_a_record_that_was_not_put_aside_is_found_nowhere(case: Case) -> None:
    place = RecordPlace(TOPIC, PARTITION, NOBODY_ASKS_FOR)
    found = await case.log.set_aside(PERSISTENCE, place, written_at=datetime.now(UTC))
    assert (found.last, found.complete) == (None, True)


async def test_the_topic_keeps_its_id(case: Case) -> None:
    first = await case.log.topic_id(TOPIC)
    assert first == await case.log.topic_id(TOPIC)
    assert first is not None
    assert len(first) == 22


async def test_there_is_no_transaction_where_nobody_began_one(case: Case) -> None:
    assert await case.log.open_transaction(TOPIC, PARTITION) is None
