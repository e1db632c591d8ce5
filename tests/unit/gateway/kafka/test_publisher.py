"""The confluent publisher over a producer that fails on demand; what needs a broker is in tests/contract."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from gateway.errors import EventTooLarge, LogUnavailable, QueueFull
from gateway.kafka.publisher import ConfluentPublisher
from gateway.kafka.records import OutgoingRecord
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.places import RecordPlace
from schemas.process.telemetry import OF_GATEWAY, PUBLISH_FAILURES, PUBLISH_IN_FLIGHT, Telemetry

FATAL = KafkaException(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "out of order", fatal=True))
RECORD = OutgoingRecord(topic="run.events", key=b"run-1", value=b"v", headers=[])


class Report:
    """A delivery report."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return self._offset


class ScriptedProducer:
    """Reports what it is told to, on the thread that polls."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.waiting: list[Callable[..., None]] = []
        self.errors: list[KafkaError] = []  # handed to error_cb by the next poll
        self.raises: list[Exception] = []  # by the next polls, one each
        self.reports_with: KafkaError | None = None
        self.silent = False
        self.refusal: Exception | None = None
        self.answers = True
        self.purged = False

    def produce(
        self, _topic: str, _value: bytes, _key: bytes, *, on_delivery: Callable[..., None], headers: Any
    ) -> None:
        assert isinstance(headers, list)
        if self.refusal is not None:
            raise self.refusal
        self.waiting.append(on_delivery)

    def poll(self, _timeout_s: float) -> int:
        if self.raises:
            raise self.raises.pop()
        while self.errors:
            self.config["error_cb"](self.errors.pop())
        if not self.silent:
            for offset in range(len(self.waiting)):
                self.waiting.pop(0)(self.reports_with, Report(offset))
        return 0

    def flush(self, _timeout_s: float) -> int:
        self.silent = False
        self.reports_with = KafkaError(KafkaError._PURGE_QUEUE) if self.purged else self.reports_with
        self.poll(0)
        return 0

    def purge(self) -> None:
        self.purged = True

    def list_topics(self, _topic: str, *, timeout: float) -> None:
        assert timeout > 0
        if not self.answers:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def __len__(self) -> int:
        return len(self.waiting)


class Bench:
    """A publisher and the producers that it made."""

    def __init__(self, **options: Any) -> None:
        self.made: list[ScriptedProducer] = []
        self.fail_to_make = 0
        self.telemetry = Telemetry(OF_GATEWAY)
        self.publisher = ConfluentPublisher(
            KafkaSettings(bootstrap="nowhere:1"),
            topic="run.events",
            telemetry=self.telemetry,
            make_producer=self._make,  # type: ignore[arg-type]  # as much of a Producer as is used
            **options,
        )

    def _make(self, config: dict[str, Any]) -> ScriptedProducer:
        if self.made and self.fail_to_make:
            self.fail_to_make -= 1
            raise KafkaException(KafkaError(KafkaError._CRIT_SYS_RESOURCE))
        self.made.append(ScriptedProducer(config))
        return self.made[-1]

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not is_so():  # noqa: ASYNC110  # what is waited for tells nobody
                await asyncio.sleep(0)

    async def ready(self) -> ScriptedProducer:
        await self.until(lambda: self.publisher.ready)
        return self.made[-1]


async def test_a_report_becomes_the_receipt() -> None:
    bench = Bench()
    async with bench.publisher as publisher:
        await bench.ready()
        receipts = await asyncio.gather(*(publisher.publish(RECORD) for _ in range(3)))
    assert {receipt.partition for receipt in receipts} == {3}
    assert RecordPlace("run.events", 3, 1042).wal_id == "run.events/3/1042"


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (BufferError("full"), QueueFull),
        (KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)), EventTooLarge),
        (KafkaException(KafkaError(KafkaError._STATE)), LogUnavailable),
    ],
)
async def test_what_the_producer_refuses_is_named_after_what_to_do(
    refusal: Exception, expected: type[Exception]
) -> None:
    bench = Bench()
    async with bench.publisher as publisher:
        (await bench.ready()).refusal = refusal
        with pytest.raises(expected):
            await publisher.publish(RECORD)


async def test_an_error_in_the_report_is_no_receipt() -> None:
    bench = Bench()
    async with bench.publisher as publisher:
        (await bench.ready()).reports_with = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
        with pytest.raises(EventTooLarge):
            await publisher.publish(RECORD)
        bench.made[-1].reports_with = KafkaError(KafkaError._MSG_TIMED_OUT)
        with pytest.raises(LogUnavailable):
            await publisher.publish(RECORD)
    counted = bench.telemetry[PUBLISH_FAILURES].labels("run.events", "_MSG_TIMED_OUT")._value.get()
    assert counted == 1


async def test_an_overdue_acknowledgement_ends_the_wait_and_the_record_stays_in_flight() -> None:
    bench = Bench(ack_timeout_s=0.01)
    async with bench.publisher as publisher:
        producer = await bench.ready()
        producer.silent, producer.answers = True, False
        with pytest.raises(LogUnavailable, match="no acknowledgement"):
            await publisher.publish(RECORD)
        assert len(producer) == 1
        assert bench.telemetry[PUBLISH_IN_FLIGHT]._value is not None
        assert not publisher.ready
        with pytest.raises(LogUnavailable, match="away"):
            await publisher.publish(RECORD)
        producer.silent = False
        await bench.until(lambda: publisher.ready)


async def test_what_is_in_flight_when_the_brokers_go_down_is_answered_soon() -> None:
    """Within a second, not after the whole acknowledgement timeout; the outcome is unknown."""
    bench = Bench()
    async with bench.publisher as publisher:
        producer = await bench.ready()
        producer.silent, producer.answers = True, False
        waiter = asyncio.create_task(publisher.publish(RECORD))
        await bench.until(lambda: len(producer) == 1)
        producer.errors.append(KafkaError(KafkaError._ALL_BROKERS_DOWN))
        with pytest.raises(LogUnavailable, match="within 1 s"):
            await waiter


async def test_while_every_broker_is_down_requests_are_answered_at_once() -> None:
    bench = Bench()
    async with bench.publisher as publisher:
        producer = await bench.ready()
        producer.answers = False
        producer.errors.append(KafkaError(KafkaError._ALL_BROKERS_DOWN))
        await bench.until(lambda: not publisher.ready)
        with pytest.raises(LogUnavailable):
            await publisher.publish(RECORD)
        assert not len(producer)
        producer.answers = True
        await bench.until(lambda: publisher.ready)
        await publisher.publish(RECORD)


async def test_a_broken_producer_is_replaced_and_its_waiters_are_told() -> None:
    bench = Bench()
    async with bench.publisher as publisher:
        broken = await bench.ready()
        broken.silent = True
        waiter = asyncio.create_task(publisher.publish(RECORD))
        await bench.until(lambda: len(broken) == 1)
        broken.raises.append(FATAL)
        await bench.until(lambda: len(bench.made) == 2 and publisher.ready)
        with pytest.raises(LogUnavailable):
            await waiter
        await publisher.publish(RECORD)


async def test_a_producer_that_takes_no_more_records_is_replaced_whatever_its_polls_said() -> None:
    bench = Bench()
    async with bench.publisher as publisher:
        (await bench.ready()).refusal = KafkaException(KafkaError(KafkaError._FATAL))
        with pytest.raises(LogUnavailable):
            await publisher.publish(RECORD)
        assert not publisher.ready
        await bench.until(lambda: len(bench.made) == 2 and publisher.ready)
        await publisher.publish(RECORD)


async def test_a_producer_that_cannot_be_built_is_built_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.kafka.publisher.REBUILD_EVERY_S", 0)
    bench = Bench()
    bench.fail_to_make = 3
    async with bench.publisher as publisher:
        (await bench.ready()).raises.append(FATAL)
        await bench.until(lambda: len(bench.made) == 2 and publisher.ready)
        await publisher.publish(RECORD)


@pytest.mark.parametrize("error", [RuntimeError("a callback failed"), KafkaException(KafkaError(KafkaError._STATE))])
async def test_an_error_out_of_a_poll_does_not_end_the_polling(error: Exception) -> None:
    bench = Bench()
    async with bench.publisher as publisher:
        producer = await bench.ready()
        producer.raises += [error] * 3
        await publisher.publish(RECORD)
        assert len(bench.made) == 1


async def test_leaving_flushes_what_is_in_flight() -> None:
    bench = Bench()
    async with bench.publisher as publisher:
        producer = await bench.ready()
        producer.silent = True
        waiter = asyncio.create_task(publisher.publish(RECORD))
        await bench.until(lambda: len(producer) == 1)
    assert (await waiter).partition == 3


async def test_any_number_wait_for_one_record_and_one_who_stops_stops_nobody_else() -> None:
    bench = Bench()
    async with bench.publisher as publisher:
        producer = await bench.ready()
        producer.silent = True
        delivery = publisher.submit(RECORD)
        waiters = [asyncio.create_task(delivery.acknowledged()) for _ in range(3)]
        await asyncio.sleep(0)
        waiters[0].cancel()
        await asyncio.wait(waiters[:1])
        waiters[1].cancel()
        producer.silent = False
        producer.poll(0)
        publisher._settle()  # at once, before the one that is to stop has had its turn
        assert (await waiters[2]).partition == 3
        assert await delivery.acknowledged() == waiters[2].result()


async def test_one_who_waits_again_for_an_overdue_record_has_its_place_when_it_comes() -> None:
    bench = Bench(ack_timeout_s=0.01)
    async with bench.publisher as publisher:
        producer = await bench.ready()
        producer.silent = True
        delivery = publisher.submit(RECORD)
        with pytest.raises(LogUnavailable):
            await delivery.acknowledged()
        assert delivery.overdue
        waiter = asyncio.create_task(delivery.acknowledged())
        producer.silent = False
        assert (await waiter).partition == 3
