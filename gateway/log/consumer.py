"""A consumer that only looks, joins no group and commits nothing; and what is asked of it. All of it blocks."""

from collections.abc import Sequence
from time import monotonic

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from gateway.errors import LogUnavailable
from schemas.consumer import looking_config

REQUEST_S = 2.0


def looking_consumer(bootstrap: str, *, group_id: str) -> Consumer:
    """A consumer that may ask what *group_id* has committed, and may read from places it is given."""
    return Consumer(looking_config(bootstrap, group_id=group_id, client_id="tidegate-gateway"))


def partitions_of(consumer: Consumer, topic: str) -> Sequence[int]:
    """The partitions of *topic*; none if there is no such topic. Raises KafkaException."""
    return list(consumer.list_topics(topic, timeout=REQUEST_S).topics[topic].partitions)


def edges_of(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """
    The first offset that a partition holds, and the one that follows its last.

    Raises:
        LogUnavailable, KafkaException: Kafka does not answer.
    """
    edges = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=REQUEST_S, cached=False)
    if edges is None:
        raise LogUnavailable(f"the log does not tell its ends within {REQUEST_S:g} s")
    return edges


def poll_until(consumer: Consumer, deadline_s: float) -> Message | None:
    """The next message or end of a partition; None after *deadline_s*. Raises KafkaException."""
    message = consumer.poll(max(0.0, deadline_s - monotonic()))
    error = None if message is None else message.error()
    if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public spelling
        raise KafkaException(error)
    return message
