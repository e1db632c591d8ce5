"""How far the groups are behind, and how many dead letters they have: asked by one thread, for all who look."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from confluent_kafka import Consumer, KafkaException, TopicPartition

from processors.fanout.dashboard import GroupStanding
from processors.fanout.log import REQUEST_S, edges_of, looking_consumer, partitions_of
from processors.runtime.batch import Partition
from processors.runtime.errors import Transient
from schemas.topics import GROUPS, Group


class GroupsLook:
    """Asks on consumers that speak for each group without joining it; an async context manager."""

    def __init__(self, bootstrap: str, groups: Sequence[Group] = GROUPS) -> None:
        """Nothing is connected before the first question."""
        self._bootstrap = bootstrap
        self._groups = groups
        self._consumers: dict[str, Consumer] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="groups")

    async def __aenter__(self) -> Self:
        """Nothing is to be waited for."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close behind what still runs."""
        await asyncio.wrap_future(self._thread.submit(self._close))
        self._thread.shutdown(wait=False)

    async def standing(self) -> Sequence[GroupStanding]:
        """
        How each group stands now.

        Raises:
            Transient: Kafka does not tell.
        """
        try:
            return await asyncio.wrap_future(self._thread.submit(self._ask))
        except KafkaException as error:
            raise Transient(f"Kafka does not tell how the groups stand: {error}") from error

    def _ask(self) -> Sequence[GroupStanding]:
        return [self._ask_for(group) for group in self._groups]

    def _ask_for(self, group: Group) -> GroupStanding:
        consumer = self._consumers.get(group.id)
        if consumer is None:
            consumer = self._consumers[group.id] = looking_consumer(
                self._bootstrap, group_id=group.id, client_id="tidegate-fanout-groups"
            )
        source = group.source.name
        edges = {each: edges_of(consumer, Partition(source, each)) for each in partitions_of(consumer, source)}
        places = consumer.committed([TopicPartition(source, each) for each in edges], timeout=REQUEST_S)
        lag = 0
        for place in places:
            first, end = edges[place.partition]
            lag += max(0, end - max(first, place.offset))
        letters = group.dead_letters.name
        held = [edges_of(consumer, Partition(letters, each)) for each in partitions_of(consumer, letters)]
        return GroupStanding(group=group.name, lag_records=lag, dead_letters=sum(end - first for first, end in held))

    def _close(self) -> None:
        for consumer in self._consumers.values():
            consumer.close()
