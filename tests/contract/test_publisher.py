"""One suite over the real publisher and its fake, so that the fake may stand in for it."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import Producer

from gateway.kafka.publisher import ConfluentPublisher, Publisher
from gateway.kafka.records import OutgoingRecord
from schemas.process.telemetry import OF_GATEWAY, Telemetry
from schemas.runs.topics import RUN_EVENTS
from tests.support.fakes import RecordingPublisher
from tests.support.librdkafka import raise_fatal_error
from tests.support.log import read_record
from tests.support.stack import RunningStack

READY_TIMEOUT_S = 30


def outgoing(number: int, *, key: str) -> OutgoingRecord:
    # No Avro on purpose: persistence dead-letters it, and no row stays behind.
    return OutgoingRecord(
        topic=RUN_EVENTS.name, key=key.encode(), value=b"contract %d" % number, headers=[("seq", b"%d" % number)]
    )


@asynccontextmanager
async def connected(stack: RunningStack, **options: Any) -> AsyncIterator[ConfluentPublisher]:
    async with ConfluentPublisher(stack.kafka, topic="run.events", telemetry=Telemetry(OF_GATEWAY), **options) as real:
        await until_ready(real)
        yield real


async def until_ready(publisher: Publisher) -> None:
    async with asyncio.timeout(READY_TIMEOUT_S):
        while not publisher.ready:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0)


@pytest.fixture(params=["fake", "real"])
async def publisher(request: pytest.FixtureRequest) -> AsyncIterator[Publisher]:
    """Yield each of the two."""
    if request.param == "fake":
        yield RecordingPublisher()
        return
    async with connected(request.getfixturevalue("stack")) as real:
        yield real


async def test_a_receipt_names_the_topic_and_a_place_of_its_own(publisher: Publisher) -> None:
    key = secrets.token_hex(8)
    receipts = await asyncio.gather(*(publisher.publish(outgoing(number, key=key)) for number in range(20)))
    assert {receipt.topic for receipt in receipts} == {RUN_EVENTS.name}
    assert len({receipt.wal_id for receipt in receipts}) == len(receipts)


async def test_records_of_one_key_keep_their_order(publisher: Publisher) -> None:
    key = secrets.token_hex(8)
    receipts = await asyncio.gather(*(publisher.publish(outgoing(number, key=key)) for number in range(20)))
    assert len({receipt.partition for receipt in receipts}) == 1
    assert [receipt.offset for receipt in receipts] == sorted(receipt.offset for receipt in receipts)


async def test_it_is_ready_once_it_can_publish(publisher: Publisher) -> None:
    await publisher.publish(outgoing(1, key=secrets.token_hex(8)))
    assert publisher.ready


async def test_the_record_lies_where_the_receipt_says(stack: RunningStack) -> None:
    """Key, value and headers are in the log, unchanged."""
    record = outgoing(1, key=secrets.token_hex(8))
    async with connected(stack) as real:
        receipt = await real.publish(record)
    found = read_record(stack, receipt)
    assert (found.key(), found.value(), found.headers()) == (record.key, record.value, record.headers)


async def test_after_a_fatal_error_of_librdkafka_another_producer_publishes(stack: RunningStack) -> None:
    made: list[Producer] = []

    def make(config: dict[str, Any]) -> Producer:
        made.append(Producer(config))
        return made[-1]

    async with connected(stack, make_producer=make) as real:
        raise_fatal_error(made[0])
        async with asyncio.timeout(READY_TIMEOUT_S):
            while len(made) == 1:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0)
        await until_ready(real)
        await asyncio.gather(*(real.publish(outgoing(number, key="fatal")) for number in range(20)))
