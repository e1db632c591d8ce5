"""A group's committed positions and the log at them: the port, and its confluent implementation."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaException

from processors.runtime.errors import Transient
from schemas.kafka import lookups
from schemas.kafka.clients import looking_config
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.places import Partition
from schemas.kafka.positions import Position, PositionFault, accepting_group, fault

REQUEST_S = 5.0
CLOSE_S = 3.0

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class Positions(Protocol):
    """The port. Its methods raise Transient where Kafka does not answer in time."""

    async def topic_ids(self, topics: Collection[str]) -> Mapping[str, str]:
        """Return Kafka's id of each of *topics* that exists."""

    async def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, Position]:
        """Return what the group has committed."""

    async def accepted(self, partitions: Collection[Partition]) -> Mapping[Partition, Position]:
        """Return what an operator has accepted as the group's positions."""

    async def fault(self, partition: Partition, position: Position) -> PositionFault | None:
        """Return the reason why *position* no longer stands for what the group has handled; None if it does."""


class KafkaPositions:
    """`Positions` of one group, asked on one thread through consumers that do not join it."""

    def __init__(self, kafka: KafkaSettings, group_id: str) -> None:
        """Connect in the background."""
        self._admin = lookups.admin_client(kafka)
        self._group = _consumer(kafka, group_id)
        self._accepting = _consumer(kafka, accepting_group(group_id))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="positions")

    async def close(self) -> None:
        """End the connections; what still runs is left to itself."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        with suppress(KafkaException, TimeoutError):  # behind a call that hangs they are left to the process's end
            async with asyncio.timeout(CLOSE_S):
                for consumer in (self._group, self._accepting):
                    await asyncio.to_thread(consumer.close)

    async def topic_ids(self, topics: Collection[str]) -> Mapping[str, str]:
        """See `Positions.topic_ids`."""
        return await self._run(lookups.topic_ids, self._admin, topics, timeout_s=REQUEST_S)

    async def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, Position]:
        """See `Positions.committed`."""
        return await self._run(_positions, self._group, partitions)

    async def accepted(self, partitions: Collection[Partition]) -> Mapping[Partition, Position]:
        """See `Positions.accepted`."""
        return await self._run(_positions, self._accepting, partitions)

    async def fault(self, partition: Partition, position: Position) -> PositionFault | None:
        """See `Positions.fault`."""
        return await self._run(self._fault, partition, position)

    def _fault(self, partition: Partition, position: Position) -> PositionFault | None:
        ids = lookups.topic_ids(self._admin, [partition.topic], timeout_s=REQUEST_S)
        if partition.topic not in ids:
            return PositionFault.RECREATED
        log = lookups.logs(self._admin, [partition], ids=ids, timeout_s=REQUEST_S)[partition]

        def digest_at(offset: int) -> str | None:
            return lookups.digest_at(self._group, partition, offset, timeout_s=REQUEST_S)

        return fault(position, log, digest_at)

    async def _run(self, call: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        try:
            return await asyncio.wrap_future(self._thread.submit(call, *args, **kwargs))
        except KafkaException as error:
            raise Transient(f"Kafka does not answer: {error}") from error


def _consumer(kafka: KafkaSettings, group_id: str) -> Consumer:
    return Consumer(looking_config(kafka, group_id=group_id, client_id="tidegate-positions"))


def _positions(consumer: Consumer, partitions: Collection[Partition]) -> Mapping[Partition, Position]:
    found = lookups.positions(consumer, partitions, timeout_s=REQUEST_S)
    return {Partition(*place): position for place, position in found.items()}
