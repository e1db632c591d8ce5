"""Records that wait beside the source under the place that they had: read whole, as far as their topic goes now."""

from collections.abc import Iterator, Mapping
from time import monotonic

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from processors.runtime.cluster import REQUEST_S, edges_of
from processors.runtime.errors import Transient
from schemas.errors import Poison
from schemas.kafka import headers
from schemas.kafka.places import Partition
from schemas.kafka.topics import Topic
from schemas.runs.codec import RUN_CODEC
from schemas.runs.records import reference_of

LETTERS_S = 60.0  # for all letters of a topic
LETTERS_MAX = 100_000


def letters(consumer: Consumer, topic: str, beginnings: Mapping[int, int]) -> Iterator[Message]:
    """Yield every record of *topic* from *beginnings* on, as far as it goes now."""
    edges = {partition: edges_of(consumer, Partition(topic, partition)) for partition in beginnings}
    places = [
        TopicPartition(topic, partition, max(beginnings[partition], first))
        for partition, (first, end) in edges.items()
        if max(beginnings[partition], first) < end
    ]
    if not places:
        return
    deadline_s, count, open_places = monotonic() + LETTERS_S, 0, len(places)
    consumer.assign(places)
    try:
        while open_places:
            message = consumer.poll(max(0.0, min(REQUEST_S, deadline_s - monotonic())))
            count += 1
            if count > LETTERS_MAX or monotonic() > deadline_s:
                raise Transient(f"more letters wait in {topic} than can be looked at: settle them first")
            if message is None:
                continue
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public spelling
                open_places -= 1
            else:
                raise KafkaException(error)
    finally:
        consumer.unassign()


def origin(letter: Message, source: Topic) -> tuple[int, int] | None:
    """Return the place that a letter had; None if it does not say one of *source*, and then no group can store it."""
    by_name = dict(letter.headers() or [])
    try:
        if by_name.get(headers.ORIGINAL_TOPIC) != source.name.encode():
            return None
        return int(by_name[headers.ORIGINAL_PARTITION]), int(by_name[headers.ORIGINAL_OFFSET])
    except (KeyError, TypeError, ValueError):
        return None


def object_of(value: bytes | None) -> str | None:
    """Return the object that a record refers to; None if it is no event with a reference."""
    try:
        reference = reference_of(RUN_CODEC.decode(value))
    except Poison:
        return None
    return None if reference is None else reference.key
