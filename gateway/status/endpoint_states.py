"""The states of the webhook endpoints, which their workers write to a compacted topic; it is read from its start."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from gateway.errors import LogUnavailable
from gateway.kafka.consumer import REQUEST_S, looking_consumer, poll_until
from gateway.kafka.thread import ClientThread
from schemas.kafka.connection import KafkaSettings
from schemas.runs.codec import endpoint_state
from schemas.runs.records import EndpointState
from schemas.runs.topics import ENDPOINT_STATES

READ_EVERY_S = 1.0


class EndpointStates:
    """The newest state of each endpoint; an async context manager."""

    def __init__(self, kafka: KafkaSettings) -> None:
        """Connect in the background."""
        self._thread = ClientThread("kafka-endpoints")
        self._consumer = looking_consumer(kafka, group_id="tidegate.gateway", follows=True)
        self._consumer.assign([TopicPartition(ENDPOINT_STATES.name, 0, OFFSET_BEGINNING)])
        self._states: dict[str, EndpointState] = {}

    @property
    def states(self) -> Mapping[str, EndpointState]:
        """Return the states by endpoint, a second old at most while Kafka answers."""
        return self._states

    async def __aenter__(self) -> Self:
        """Read what is there, and go on."""
        await self._read_once()
        self._task = asyncio.create_task(self._go_on_reading())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Read no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._thread.close(self._consumer.close)

    async def _go_on_reading(self) -> None:
        while True:
            await asyncio.sleep(READ_EVERY_S)
            await self._read_once()

    async def _read_once(self) -> None:
        with suppress(LogUnavailable):  # read on soon
            await self._thread.run(self._read)

    def _read(self) -> None:
        deadline_s = monotonic() + REQUEST_S
        while (message := poll_until(self._consumer, deadline_s)) is not None and message.error() is None:
            if (state := endpoint_state(message.value())) is not None:
                self._states[state.endpoint] = state
