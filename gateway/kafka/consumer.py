"""A consumer that only looks, joins no group and commits nothing; and what is asked of it. All of it blocks."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from time import monotonic

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from gateway.errors import LogUnavailable
from schemas.kafka.clients import is_unreadable, looking_config
from schemas.kafka.connection import KafkaSettings

REQUEST_S = 2.0
MESSAGES_MAX = 500  # taken from the client at once


class Unreadable(KafkaException):
    """A record is there that can never be read."""

    def __init__(self, error: KafkaError, *, partition: int, offset: int) -> None:
        """Name its place."""
        super().__init__(error)
        self.partition = partition
        self.offset = offset


def looking_consumer(
    kafka: KafkaSettings, *, group_id: str, committed_only: bool = True, follows: bool = False
) -> Consumer:
    """
    Return a consumer that may ask what *group_id* has committed, and may read from places it is given.

    Unless it reads *committed_only*, it sees the records of open and of aborted transactions too. One that *follows*
    stays with its partitions.
    """
    config = looking_config(kafka, group_id=group_id, client_id="tidegate-gateway", follows=follows)
    return Consumer(config if committed_only else config | {"isolation.level": "read_uncommitted"})


def partitions_of(consumer: Consumer, topic: str) -> Sequence[int]:
    """Return the partitions of *topic*; none if there is no such topic. Raises KafkaException."""
    return list(consumer.list_topics(topic, timeout=REQUEST_S).topics[topic].partitions)


def edges_of(consumer: Consumer, topic: str, partitions: Collection[int]) -> Mapping[int, tuple[int, int]]:
    """
    Return the first offset that each of *partitions* holds, and the one that follows its last: two requests to each
    broker.

    Raises:
        LogUnavailable, KafkaException: Kafka does not answer, or not for each.
    """
    firsts = _offsets(consumer, topic, partitions, OFFSET_BEGINNING)
    ends = _offsets(consumer, topic, partitions, OFFSET_END)
    return {partition: (firsts[partition], ends[partition]) for partition in partitions}


def _offsets(consumer: Consumer, topic: str, partitions: Collection[int], place: int) -> Mapping[int, int]:
    # The offset for a time: these two stand for times that are no times.
    asked = [TopicPartition(topic, partition, place) for partition in partitions]
    found = offsets_at(consumer, asked) if asked else []
    if any(each.offset < 0 for each in found):
        raise LogUnavailable("the log does not tell its ends")
    return {each.partition: each.offset for each in found}


def offsets_at(consumer: Consumer, asked: list[TopicPartition]) -> list[TopicPartition]:
    """Return the first offset at or after each time that *asked* has as its offset. Raises KafkaException."""
    found: list[TopicPartition] = consumer.offsets_for_times(asked, timeout=REQUEST_S)
    for each in found:
        if each.error is not None:
            raise KafkaException(each.error)
    return found


def poll_until(consumer: Consumer, deadline_s: float) -> Message | None:
    """Return the next message or end of a partition; None after *deadline_s*. Raises KafkaException."""
    message = consumer.poll(max(0.0, deadline_s - monotonic()))
    return None if message is None else _sound(message)


def messages_until(consumer: Consumer, deadline_s: float) -> Iterator[Message]:
    """
    Yield the messages and ends of partitions until *deadline_s*; a caller that stops earlier must assign again.

    They are taken by the hundred: each call into the client gives the interpreter away, and a busy event loop takes
    5 ms to give it back.

    Raises:
        KafkaException: the log cannot be read.
    """
    while monotonic() < deadline_s and (first := poll_until(consumer, deadline_s)) is not None:
        yield first
        yield from map(_sound, consumer.consume(MESSAGES_MAX, timeout=0))


def _sound(message: Message) -> Message:
    error = message.error()
    if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public spelling
        if is_unreadable(error):
            raise Unreadable(error, partition=message.partition() or 0, offset=message.offset() or 0)
        raise KafkaException(error)
    return message
