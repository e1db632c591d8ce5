"""The lag of the groups, their dead letters and breakers: one thread reads them for all dashboards."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from processors.fanout.dashboard import GroupStatus, SystemStatus
from processors.fanout.log import looking_consumer
from processors.runtime.cluster import REQUEST_S, edges_of, partitions_of
from processors.runtime.errors import Transient
from schemas.catalogue import groups_among
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.places import Partition
from schemas.kafka.topics import Group
from schemas.runs.codec import endpoint_state
from schemas.runs.records import EndpointState
from schemas.runs.topics import ENDPOINT_STATES


class SystemStatusReader:
    """A reader that asks through one consumer per group without joining it; an async context manager."""

    def __init__(self, kafka: KafkaSettings) -> None:
        """Connect nothing before the first question."""
        self._kafka = kafka
        self._consumers: dict[Group, Consumer] = {}
        self._states: Consumer | None = None  # reads on where it was
        self._states_read = False  # to their end, once
        self._endpoints: dict[str, EndpointState] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="groups")

    async def __aenter__(self) -> Self:
        """Return at once: nothing is connected yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close behind what still runs."""
        await asyncio.wrap_future(self._thread.submit(self._close))
        self._thread.shutdown(wait=False)

    async def read(self) -> SystemStatus:
        """
        Return how each group and endpoint stands now.

        Raises:
            Transient: Kafka does not tell.
        """
        try:
            return await asyncio.wrap_future(self._thread.submit(self._ask))
        except KafkaException as error:
            raise Transient(f"Kafka does not tell how the groups stand: {error}") from error

    def _ask(self) -> SystemStatus:
        if self._states is None:
            self._states = self._consumer("tidegate.fanout", follows=True)
            self._states.assign([TopicPartition(ENDPOINT_STATES.name, 0, OFFSET_BEGINNING)])
        self._read_states(self._states)
        groups = groups_among(self._states.list_topics(timeout=REQUEST_S).topics)
        for gone in self._consumers.keys() - set(groups):
            self._consumers.pop(gone).close()
        return SystemStatus(groups=[self._ask_for(group) for group in groups], endpoints=dict(self._endpoints))

    def _read_states(self, consumer: Consumer) -> None:
        # The end is told once: from then on what has been fetched meanwhile is taken.
        while (message := consumer.poll(0.0 if self._states_read else REQUEST_S)) is not None:
            if (error := message.error()) is not None:
                if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public spelling
                    self._states_read = True
                    return
                raise KafkaException(error)
            if (state := endpoint_state(message.value())) is not None:
                self._endpoints[state.endpoint] = state

    def _consumer(self, group_id: str, *, follows: bool = False) -> Consumer:
        return looking_consumer(self._kafka, group_id=group_id, client_id="tidegate-fanout-groups", follows=follows)

    def _ask_for(self, group: Group) -> GroupStatus:
        consumer = self._consumers.get(group)
        if consumer is None:
            consumer = self._consumers[group] = self._consumer(group.id)
        source = group.source.name
        edges = {each: edges_of(consumer, Partition(source, each)) for each in partitions_of(consumer, source)}
        places = consumer.committed([TopicPartition(source, each) for each in edges], timeout=REQUEST_S)
        lag = 0
        for place in places:
            first, end = edges[place.partition]
            lag += max(0, end - max(first, place.offset))
        letters = group.dead_letters.name
        held = [edges_of(consumer, Partition(letters, each)) for each in partitions_of(consumer, letters)]
        return GroupStatus(group=group.name, lag_records=lag, dead_letters=sum(end - first for first, end in held))

    def _close(self) -> None:
        for consumer in (*self._consumers.values(), *([self._states] if self._states else [])):
            consumer.close()
