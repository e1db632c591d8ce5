"""
The port to the log, and its confluent implementation.

Why not confluent's own asyncio producer: it refuses headers and adds up to a second. Here one thread polls;
delivery reports gather in a queue and the event loop is woken once for each drained batch of them, since
a wake-up per record would cost more than the record, and a future must not be settled from that thread.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from functools import cache, partial
from itertools import takewhile
from typing import Any, Protocol, Self

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from gateway.errors import EventTooLarge, HttpError, LogUnavailable, QueueFull
from gateway.kafka.polled import PolledProducer
from gateway.kafka.records import OutgoingRecord
from schemas.kafka.clients import producer_config
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.places import RecordPlace
from schemas.process.telemetry import EVENTS_ACCEPTED, PUBLISH_DURATION, PUBLISH_FAILURES, PUBLISH_IN_FLIGHT, Telemetry

LINGER_MS = 0.5  # what comes while requests are under way makes the batches: as many events a second as with 3 ms
IN_FLIGHT_MAX = 10_000
QUEUE_KIB_MAX = 128 * 1024
ACK_TIMEOUT_S = 10.0
AWAY_PATIENCE_S = 1.0  # once the broker is known to be away
SWEEP_EVERY_S = 0.25
REBUILD_EVERY_S = 1.0  # where a producer cannot be built

log = structlog.get_logger()


Reported = Callable[[RecordPlace | None], None]


class ProducerDelivery(Protocol):
    """A record that was handed over to the log."""

    @property
    def overdue(self) -> bool:
        """Return True if it was not acknowledged in time, and may be written or not, now or later."""

    async def acknowledged(self) -> RecordPlace:
        """
        Wait for the broker's acknowledgement, for a bounded time. Any number may wait, also again.

        Raises:
            LogUnavailable: none in time, or the broker did not take the record. Answer 503.
            EventTooLarge: over the topic's limit. Never retry. Answer 413.
        """


class Publisher(Protocol):
    """The port to the log."""

    @property
    def ready(self) -> bool:
        """Return True if a record published now would be taken, as far as is known."""

    @property
    def in_flight(self) -> int:
        """Return how many records were handed over and are not reported yet."""

    def submit(self, record: OutgoingRecord, *, reported: Reported | None = None) -> ProducerDelivery:
        """
        Append *record* to its topic; records with one key keep their order.

        *reported* is called once, when its fate is known: with the place where it is durable on every in-sync
        replica, or with None if it is not there as far as this producer can tell.

        Raises:
            QueueFull: too much is in flight; nothing was written. Answer 429.
            LogUnavailable: the broker is known to be away; nothing was written. Answer 503.
            EventTooLarge: over the topic's limit. Never retry. Answer 413.
        """

    async def publish(self, record: OutgoingRecord) -> RecordPlace:
        """
        Append *record* and wait for the acknowledgement.

        On `LogUnavailable` it may or may not have been written, and may still be: the caller answers 503
        and the client sends the same again.

        Raises:
            QueueFull, LogUnavailable, EventTooLarge: see `submit` and `ProducerDelivery.acknowledged`.
        """


class ConfluentPublisher:
    """
    The idempotent producer of one gateway; an async context manager.

    It counts as away (`LogUnavailable` at once) from the moment that librdkafka reports every broker down, or
    that an acknowledgement is overdue, until a report or a metadata request succeeds. A fatal error of
    the producer makes it away until another one is built.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        topic: str,
        telemetry: Telemetry,
        make_producer: Callable[[dict[str, Any]], Producer] = Producer,
        ack_timeout_s: float = ACK_TIMEOUT_S,
        in_flight_max: int = IN_FLIGHT_MAX,
    ) -> None:
        """Prepare; nothing is opened before the context is entered. A broker answers if it knows *topic*'s metadata."""
        self._topic = topic
        self._config: dict[str, Any] = {
            **producer_config(kafka, client_id="tidegate-gateway", linger_ms=LINGER_MS),
            "queue.buffering.max.messages": in_flight_max,
            "queue.buffering.max.kbytes": QUEUE_KIB_MAX,
            "reconnect.backoff.max.ms": 1000,  # the default of 10 s would prolong every outage
            "logger": logging.getLogger("librdkafka"),
            "error_cb": self._on_error,
        }
        self._make_producer = make_producer
        self._ack_timeout_s = ack_timeout_s
        self._in_flight = telemetry[PUBLISH_IN_FLIGHT]
        # Cached, since looking up a label costs more than counting.
        self._duration = cache(telemetry[PUBLISH_DURATION].labels)
        self._accepted = cache(telemetry[EVENTS_ACCEPTED].labels)
        self._failures = cache(telemetry[PUBLISH_FAILURES].labels)
        self._reports: deque[_Delivery] = deque()  # bounded by what may be in flight
        self._awaited: dict[_Delivery, None] = {}  # by age, the oldest first
        self._away = True
        self._broken = False
        self._suspected = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Connect in the background; `ready` turns true with a broker's first answer."""
        self._loop = asyncio.get_running_loop()
        self._polled = self._open()
        self._in_flight.set_function(lambda: len(self._polled.producer))
        self._suspected.set()
        self._tasks = [asyncio.create_task(self._recover()), asyncio.create_task(self._sweep())]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Flush what is in flight, for a bounded time."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        unreported = await asyncio.to_thread(self._polled.close)
        self._settle()
        if unreported:
            log.warning("stopped with records in flight", records=unreported)

    @property
    def ready(self) -> bool:
        """Return True if a record published now would be taken, as far as is known."""
        return not self._away

    @property
    def in_flight(self) -> int:
        """Return how many records were handed over and are not reported yet."""
        return len(self._polled.producer)

    async def publish(self, record: OutgoingRecord) -> RecordPlace:
        """Append *record* and wait; see `Publisher.publish`."""
        return await self.submit(record).acknowledged()

    def submit(self, record: OutgoingRecord, *, reported: Reported | None = None) -> ProducerDelivery:
        """Append *record*; see `Publisher.submit`."""
        if self._away:
            raise LogUnavailable("the broker is away; nothing was written")
        delivery = _Delivery(record.topic, loop=self._loop, reports=self._reports, reported=reported)
        try:
            self._polled.producer.produce(
                record.topic,
                record.value,
                record.key,
                on_delivery=delivery,
                headers=record.headers,  # type: ignore[arg-type]  # it is read alone
            )
        except BufferError as error:
            raise QueueFull("too many records wait for the broker") from error
        except KafkaException as error:
            cause: Any = error.args[0]
            if cause.code() == KafkaError._FATAL:  # noqa: SLF001  # its public spelling
                self._suspect(str(cause), fatal=True)
            raise _refusal(error) from error
        self._awaited[delivery] = None
        return delivery

    def _open(self) -> PolledProducer:
        return PolledProducer(
            self._make_producer(self._config),
            topic=self._topic,
            reports=self._reports,
            wake=self._wake,
            fatal=self._on_fatal,
        )

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        now_s = time.monotonic()
        while self._reports:
            delivery = self._reports.popleft()
            self._awaited.pop(delivery, None)
            delivery.settle()
            self._duration(delivery.topic).observe(now_s - delivery.started_s)
            if delivery.error is None:
                self._accepted(delivery.topic).inc()
                self._away = self._broken
            else:
                self._failures(delivery.topic, delivery.error.name()).inc()

    def _on_error(self, error: KafkaError) -> None:
        # On the poll thread: the event loop acts on it.
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001  # its public spelling
            self._loop.call_soon_threadsafe(self._suspect, str(error))

    def _on_fatal(self, error: KafkaError) -> None:
        # On the poll thread too.
        self._loop.call_soon_threadsafe(partial(self._suspect, str(error), fatal=True))

    def _suspect(self, error: str, *, fatal: bool = False) -> None:
        if not self._away:
            log.warning("Kafka unavailable", error=error)
        self._away = True
        self._broken = self._broken or fatal
        self._suspected.set()

    async def _recover(self) -> None:
        while True:
            await self._suspected.wait()
            self._suspected.clear()
            if self._broken:
                await self._rebuild()
            while self._away and not self._broken:
                if await asyncio.to_thread(self._polled.answers):
                    self._away = self._broken
                    log.info("Kafka available")

    async def _rebuild(self) -> None:
        log.error("fatal producer error, building another producer")
        broken = self._polled
        try:
            self._polled = self._open()
        except KafkaException as error:
            log.warning("producer not built, trying again", error=str(error))
            await asyncio.sleep(REBUILD_EVERY_S)
            self._suspected.set()
            return
        self._broken = False
        await asyncio.to_thread(broken.discard)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            patience_s = min(AWAY_PATIENCE_S, self._ack_timeout_s) if self._away else self._ack_timeout_s
            overdue = self._started_before(time.monotonic() - patience_s)
            for delivery in overdue:
                del self._awaited[delivery]
                delivery.give_up(f"no acknowledgement within {patience_s:g} s")
            if overdue:
                self._suspect("acknowledgements are overdue")

    def _started_before(self, latest_s: float) -> list["_Delivery"]:
        return list(takewhile(lambda delivery: delivery.started_s < latest_s, self._awaited))


class _Delivery:
    """One record in flight; called on the poll thread with its report."""

    __slots__ = ("_loop", "_message", "_outcome", "_reported", "_reports", "error", "overdue", "started_s", "topic")

    def __init__(
        self,
        topic: str,
        *,
        loop: asyncio.AbstractEventLoop,
        reports: "deque[_Delivery]",
        reported: Reported | None,
    ) -> None:
        self.topic = topic
        self.error: KafkaError | None = None
        self.overdue = False
        self.started_s = time.monotonic()
        self._loop = loop
        self._outcome: asyncio.Future[RecordPlace] = loop.create_future()
        self._reports = reports
        self._reported = reported
        self._message: Message | None = None

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        self.error, self._message = error, message
        self._reports.append(self)

    async def acknowledged(self) -> RecordPlace:
        """See `ProducerDelivery.acknowledged`."""
        outcome = asyncio.shield(self._outcome)  # one who stops waiting must not stop the others
        if not self.overdue:
            return await outcome
        try:
            async with asyncio.timeout(AWAY_PATIENCE_S):
                return await outcome
        except TimeoutError:
            raise LogUnavailable("still no acknowledgement; it may be written or not") from None

    def settle(self) -> None:
        """Report the outcome to all waiters and to the callback."""
        message, receipt = self._message, None
        if self.error is None and message is not None:
            receipt = RecordPlace(self.topic, message.partition() or 0, message.offset() or 0)
            self._outcome.set_result(receipt)
        else:
            self._fail(_refusal(KafkaException(self.error)))
        if self._reported is not None:
            self._reported(receipt)

    def give_up(self, why: str) -> None:
        """End the wait; the record stays in flight and may still be written."""
        self._fail(LogUnavailable(why))
        self._outcome = self._loop.create_future()
        self.overdue = True

    def _fail(self, refusal: HttpError) -> None:
        self._outcome.set_exception(refusal)
        self._outcome.exception()  # seen: nobody may be waiting any more


def _refusal(failure: KafkaException) -> HttpError:
    error: Any = failure.args[0]
    if error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE):
        return EventTooLarge("the record is larger than its topic takes")
    return LogUnavailable(f"the broker did not take the record: {error.name()}")
