"""
Records of one topic from a place on, without a consumer group: nothing is committed, nobody is rebalanced.

Records of one partition come in order; partitions are mixed as they arrive.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaException,
    Message,
    TopicPartition,
)

from deploy.errors import CommandFailed, NotReachable
from schemas.kafka.clients import ANSWER_BYTES_MAX, FETCH_BYTES_MAX, headers_of, is_unreadable
from schemas.kafka.connection import KafkaSettings, confluent_options
from schemas.kafka.places import RecordPlace
from schemas.kafka.topics import RECORD_BYTES_MAX

TIMEOUT_S = 10.0
POLL_S = 0.5


class Edge(Enum):
    """One end of the log."""

    BEGINNING = "beginning"
    END = "end"


Start = Edge | int | datetime  # an int is an offset, meant for each partition


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """One record as the broker has it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None  # None: the record has none
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    problem: str | None = None  # why the record cannot be read: it has no key, value and headers then

    @property
    def place(self) -> RecordPlace:
        """Return its position in the log."""
        return RecordPlace(self.topic, self.partition, self.offset)

    @property
    def size_bytes(self) -> int:
        """Return the size of key, value and headers."""
        headers = sum(len(name) + len(value or b"") for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers


def parse_start(text: str) -> Start:
    """
    Read what `--from` may be.

    Raises:
        ValueError: neither beginning, end, an offset nor a time with its offset from UTC.
    """
    if text in (edge.value for edge in Edge):
        return Edge(text)
    if text.isdecimal():
        return int(text)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment


def records(kafka: KafkaSettings, topic: str, start: Start, *, follow: bool) -> Iterator[Raw]:
    """
    Yield the records of *topic* from *start* on: up to what is there now, or with *follow* without end.

    Raises:
        NotReachable: no broker answers.
        CommandFailed: there is no such topic, or what was asked for could not be read.
    """
    consumer = Consumer(
        {
            **confluent_options(kafka),
            "group.id": "tidegate.tail",  # the library asks for one; nothing joins it
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": False,
            "fetch.message.max.bytes": RECORD_BYTES_MAX,
            "fetch.max.bytes": FETCH_BYTES_MAX,
            "receive.message.max.bytes": ANSWER_BYTES_MAX,
            "allow.auto.create.topics": False,
            "log_level": 0,
            "error_cb": lambda _error: None,  # a broker that is away for a while is no error; the library reconnects
        }
    )
    with closing(consumer):
        try:
            places = _places(consumer, topic, start)
            consumer.assign([place for place, _ in places])
            unread = {place.partition: end for place, end in places if place.offset < end}
            yield from _poll(consumer) if follow else _poll_until(consumer, unread)
        except KafkaException as error:
            raise CommandFailed(f"{topic} cannot be read: {error.args[0]}") from error


def _places(consumer: Consumer, topic: str, start: Start) -> list[tuple[TopicPartition, int]]:
    """Return where to begin in each partition, and where it ends now."""
    try:
        known = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
    except KafkaException as error:
        raise NotReachable(f"Kafka does not answer: {error.args[0]}") from error
    if known.error is not None:
        raise CommandFailed(f"no topic {topic}: `tidegate topics list` shows what there is")
    partitions = [TopicPartition(topic, partition) for partition in sorted(known.partitions)]
    bounds = {one.partition: consumer.get_watermark_offsets(one, timeout=TIMEOUT_S) for one in partitions}
    since: Mapping[int, int] = {}
    if isinstance(start, datetime):
        moment_ms = int(start.timestamp() * 1000)
        asked = [TopicPartition(topic, one.partition, moment_ms) for one in partitions]
        since = {one.partition: one.offset for one in consumer.offsets_for_times(asked, timeout=TIMEOUT_S)}
    places = []
    for partition, (low, high) in bounds.items():
        if isinstance(start, Edge):
            offset = low if start is Edge.BEGINNING else high
        else:
            wanted = start if isinstance(start, int) else since[partition]
            offset = high if wanted < 0 else min(max(wanted, low), high)  # negative: nothing is that young
        places.append((TopicPartition(topic, partition, offset), high))
    return places


def _poll(consumer: Consumer) -> Iterator[Raw]:
    while True:
        if (message := consumer.poll(POLL_S)) is not None:
            yield _raw(consumer, message)


def _poll_until(consumer: Consumer, unread: dict[int, int]) -> Iterator[Raw]:
    """Read on until each partition's position has reached its end, which may be no record (a marker, say)."""
    while unread:
        if (message := consumer.poll(POLL_S)) is not None:
            raw = _raw(consumer, message)
            if raw.offset < unread.get(raw.partition, 0):
                yield raw
        # Negative until the first record of a partition has come.
        reached = {place.partition: place.offset for place in consumer.position(consumer.assignment())}
        unread = {partition: end for partition, end in unread.items() if reached[partition] < end}


def _raw(consumer: Consumer, message: Message) -> Raw:
    place = message.topic() or "", message.partition() or 0, message.offset() or 0
    if (error := message.error()) is not None:
        if not is_unreadable(error):
            raise KafkaException(error)
        topic, partition, offset = place
        consumer.seek(TopicPartition(topic, partition, offset + 1))  # else the client tries it again for ever
        return _record(*place, problem="its batch does not inflate, or to more than is read")
    kind, timestamp_ms = message.timestamp()
    return _record(
        *place,
        timestamp_ms=None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp_ms,
        key=message.key(),
        value=message.value(),
        headers=headers_of(message),
    )


def _record(
    topic: str,
    partition: int,
    offset: int,
    *,
    timestamp_ms: int | None = None,
    key: bytes | None = None,
    value: bytes | None = None,
    headers: Sequence[tuple[str, bytes | None]] = (),
    problem: str | None = None,
) -> Raw:
    return Raw(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp_ms=timestamp_ms,
        key=key,
        value=value,
        headers=list(headers),
        problem=problem,
    )
