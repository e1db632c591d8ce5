"""
A record that can never be read, to each of our readers on librdkafka: told or passed over, and what follows is read.

Over librdkafka's own broker in memory, which keeps what it is sent.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import TypeVar

import pytest
from confluent_kafka import Producer

from deploy.log.reading import Edge, records
from deploy.log.showing import show
from gateway.errors import LogUnavailable
from gateway.kafka.reader import LogReader
from gateway.runs.sequence.memory import RunState
from gateway.runs.sequence.tail import PartitionTail
from gateway.runs.sequence.tail_reader import TailReader
from processors.fanout.log import KafkaLog
from processors.runtime.errors import Transient
from schemas.kafka.clients import ANSWER_BYTES_MAX
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.places import Partition, RecordPlace
from schemas.runs.records import RunEvent
from schemas.runs.topics import RUN_EVENTS
from tests.support.builders import RUN, TENANT, credentials, event, raw, run_event

WITHIN_S = 30.0
UNREADABLE_AT = 1
ATTEMPTS_MAX = 10

Answer = TypeVar("Answer")


@pytest.fixture(scope="module")
def kafka() -> Iterator[KafkaSettings]:
    """Yield a broker whose one topic has an event, what inflates to more than is read, and another event."""
    producer = Producer(
        {
            "bootstrap.servers": "in memory",
            "test.mock.num.brokers": 1,
            "compression.type": "zstd",
            "message.max.bytes": 4 * ANSWER_BYTES_MAX,
            "log_level": 0,
        }
    )
    brokers = producer.list_topics(timeout=WITHIN_S).brokers.values()
    first, last = raw(run_event(event(1))), raw(run_event(event(2)))
    for value, key, headers in (
        (first.value, first.key, first.headers),
        (bytes(2 * ANSWER_BYTES_MAX), RUN.encode(), []),
        (last.value, last.key, last.headers),
    ):
        producer.produce(
            RUN_EVENTS.name, value, key, partition=0, headers=[(name, proof or b"") for name, proof in headers]
        )
        assert producer.flush(WITHIN_S) == 0
    yield KafkaSettings(bootstrap=",".join(f"{each.host}:{each.port}" for each in brokers))
    producer.flush(WITHIN_S)  # the broker lives as long as its producer


async def in_time(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask again where a busy machine did not answer within the reader's bound."""
    for _ in range(ATTEMPTS_MAX - 1):
        with suppress(LogUnavailable, Transient):
            return await call()
    return await call()


async def test_a_receipt_finds_it_there(kafka: KafkaSettings) -> None:
    async with LogReader(kafka) as reader:
        entry = await in_time(lambda: reader.entry(RecordPlace(RUN_EVENTS.name, 0, UNREADABLE_AT)))
        after = await in_time(lambda: reader.entry(RecordPlace(RUN_EVENTS.name, 0, UNREADABLE_AT + 1)))
    assert entry is not None
    assert entry.record is not None
    assert (entry.record.place.offset, entry.record.value) == (UNREADABLE_AT, None)
    assert after is not None
    assert after.record is not None
    assert after.record.value is not None


async def test_a_look_at_a_run_goes_past_it(kafka: KafkaSettings) -> None:
    tail = PartitionTail(0, records_max=100, credentials=credentials)
    async with TailReader(kafka) as tails:
        for _ in range(ATTEMPTS_MAX):
            if await in_time(lambda: tails.extend([tail], stored_to={})) == {0}:
                break
    known = tail.add_to(RunState(), (TENANT, RUN), [])
    assert known is not None
    assert (tail.end, known.head) == (3, 2)


async def test_a_socket_that_comes_back_is_sent_what_follows_it(kafka: KafkaSettings) -> None:
    async with KafkaLog(kafka) as log:
        found = await in_time(lambda: log.read(Partition(RUN_EVENTS.name, 0), 0, 3))
    assert ([record.offset for record in found.records], found.next_offset) == ([0, 2], 3)


def test_an_operator_is_shown_that_it_cannot_be_read(kafka: KafkaSettings) -> None:
    shown = [show(each, None) for each in records(kafka, RUN_EVENTS.name, Edge.BEGINNING, follow=False)]
    assert [each.wal_id for each in shown] == [f"{RUN_EVENTS.name}/0/{offset}" for offset in range(3)]
    assert isinstance(shown[0].record, RunEvent)
    assert "does not inflate" in (shown[UNREADABLE_AT].problem or "")
    assert "does not inflate" in shown[UNREADABLE_AT].line()
    assert isinstance(shown[2].record, RunEvent)
