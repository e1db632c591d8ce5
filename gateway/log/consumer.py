"""A consumer that only looks, joins no group and commits nothing; and what is asked of it. All of it blocks."""

from collections.abc import Sequence
from time import monotonic
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from gateway.errors import LogUnavailable

REQUEST_S = 2.0
FETCH_WAIT_MS = 10  # a fetch that waits for news holds up the next look
QUEUED_KIB_MAX = 16 * 1024


def looking_consumer(bootstrap: str, *, group_id: str) -> Consumer:
    """A consumer that may ask what *group_id* has committed, and may read from places it is given."""
    config: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "group.id": group_id,
        "client.id": "tidegate-gateway",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "allow.auto.create.topics": False,
        "fetch.wait.max.ms": FETCH_WAIT_MS,
        "queued.max.messages.kbytes": QUEUED_KIB_MAX,
        "reconnect.backoff.max.ms": 1000,
        "log_level": 0,  # that the broker is away is said by the publisher
        "error_cb": lambda _error: None,
    }
    return Consumer(config)


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
