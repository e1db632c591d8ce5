"""Requests to a cluster beside consuming. Functions that are not coroutines block."""

import asyncio
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from confluent_kafka import Consumer, KafkaException, TopicPartition

from processors.runtime.errors import Transient, Unsettled
from schemas.kafka import lookups
from schemas.kafka.clients import looking_config
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.places import Partition
from schemas.kafka.reach import connection_fault
from schemas.kafka.topics import Group

REQUEST_S = 5.0
START_S = 20.0  # every process of a stack starts at once, on a machine that may have two cores


async def check_connection(kafka: KafkaSettings) -> None:
    """
    See that a broker answers, for a worker that starts.

    Raises:
        Transient: none does; the text says why and what to do.
    """
    if (fault := await asyncio.to_thread(connection_fault, kafka, timeout_s=START_S)) is not None:
        raise Transient(fault)


async def topic_names(kafka: KafkaSettings) -> AbstractSet[str]:
    """
    Return every topic of the cluster, for a worker that starts.

    Raises:
        Transient: no broker answers.
    """
    admin = lookups.admin_client(kafka)
    try:
        return (await asyncio.to_thread(admin.list_topics, timeout=START_S)).topics.keys()
    except KafkaException as error:
        raise Transient(f"Kafka does not answer: {error}") from error


async def topic_id(kafka: KafkaSettings, topic: str) -> str:
    """
    Return Kafka's id of *topic*, for a worker that starts.

    Raises:
        Transient: no broker answers.
        Unsettled: there is no such topic.
    """
    admin = lookups.admin_client(kafka)
    try:
        found = await asyncio.to_thread(lookups.topic_ids, admin, [topic], timeout_s=START_S)
    except KafkaException as error:
        raise Transient(f"Kafka does not answer: {error}") from error
    if topic not in found:
        raise Unsettled(f"topic {topic} does not exist: run `tidegate topics create`")
    return found[topic]


class PartitionCount:
    """The number of partitions of a topic: asked once, since nobody adds any to a topic in use."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        """Ask nothing yet."""
        self._kafka = kafka
        self._topic = topic
        self._count: int | None = None

    async def __call__(self) -> int:
        """
        Return the number.

        Raises:
            Transient: no broker answers, or there is no such topic.
        """
        if self._count is None:
            self._count = await asyncio.to_thread(self._ask)
        return self._count

    def _ask(self) -> int:
        admin = lookups.admin_client(self._kafka)
        try:
            found = admin.list_topics(self._topic, timeout=REQUEST_S).topics[self._topic]
        except KafkaException as error:
            raise Transient(f"Kafka does not answer: {error}") from error
        if not found.partitions:
            raise Transient(f"Kafka does not know the topic {self._topic}: {found.error}")
        return len(found.partitions)


class CommittedOffsets:
    """The offsets that another group has committed in its source topic; each call asks again."""

    def __init__(self, kafka: KafkaSettings, group: Group) -> None:
        """Ask nothing yet; *group* is not joined."""
        self._consumer = Consumer(looking_config(kafka, group_id=group.id, client_id=f"{group.id}.looking"))
        self._topic = group.source.name

    async def __call__(self, partition: int) -> int:
        """
        Return the offset of the next record that the group handles in *partition*; 0 if it has committed nothing.

        Raises:
            Transient: no broker answers.
        """
        place = Partition(self._topic, partition)
        try:
            found = await asyncio.to_thread(lookups.positions, self._consumer, [place], timeout_s=REQUEST_S)
        except KafkaException as error:
            raise Transient(f"Kafka does not answer: {error}") from error
        return found[place].offset or 0


def partitions_of(consumer: Consumer, topic: str) -> Sequence[int]:
    """Return the partitions of *topic*; none if there is no such topic. Raises KafkaException."""
    return list(consumer.list_topics(topic, timeout=REQUEST_S).topics[topic].partitions)


def edges_of(consumer: Consumer, partition: Partition) -> tuple[int, int]:
    """
    Return the first offset that a partition holds, and the one that follows its last. Raises Transient, KafkaException.
    """
    edges = consumer.get_watermark_offsets(TopicPartition(*partition), timeout=REQUEST_S, cached=False)
    if edges is None:
        raise Transient(f"{partition.topic}/{partition.partition} does not tell its ends within {REQUEST_S:g} s")
    return edges
