"""
The endpoint's state, kept in the log for all who show it, and for the worker's next start.

A compacted topic: the last record of an endpoint counts. The worker writes it; so does an operator who enables an
endpoint again that was disabled, which is why a worker whose endpoint is disabled goes on looking.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from time import monotonic
from typing import Self

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from processors.outbound.breaker import Breaker
from processors.runtime.cluster import PartitionCount
from processors.runtime.dead_letters import LogWriter, OutgoingRecord
from processors.runtime.errors import RecordRefused, Transient, Unsettled
from processors.runtime.positions import KafkaPositions
from schemas.kafka.clients import looking_config
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.places import Partition
from schemas.kafka.positions import Position, is_accepted
from schemas.kafka.topics import Group
from schemas.pacing.breaker import BreakerState
from schemas.runs.codec import STATE_CODEC, endpoint_state
from schemas.runs.endpoints import Endpoint
from schemas.runs.records import EndpointState
from schemas.runs.topics import ENDPOINT_STATES

POLL_INTERVAL_S = 2.0
READ_TIMEOUT_S = 10.0
REASON_CHARACTERS_MAX = 500

log = structlog.get_logger()


class EndpointStates:
    """The writer of one endpoint's breaker state to the log; an async context manager."""

    def __init__(
        self,
        group: Group,
        endpoint: Callable[[], Endpoint],
        *,
        kafka: KafkaSettings,
        writer: LogWriter,
        clock: Callable[[], datetime],
    ) -> None:
        """Keep the state of the endpoint whose group *group* is; the context tells it a first time."""
        assert group.member is not None
        self._group = group
        self._name = group.member
        self._endpoint = endpoint
        self._kafka = kafka
        self._writer = writer
        self._clock = clock
        self._changed = asyncio.Event()
        self.breaker = Breaker(changed=self._note)

    async def __aenter__(self) -> Self:
        """
        Take over what the log says of the endpoint; then tell it whatever changes.

        Raises:
            Transient: the log does not answer.
            Unsettled: nothing says where the group begins.
        """
        # In this order, and written before the group is joined: while the log says nothing of the endpoint, no worker
        # has joined, and what is committed is still where the group began.
        beginning = await self._beginning()
        last = await asyncio.to_thread(self._read_last)
        self._first_offsets = beginning if last is None else _earliest(last.first_offsets, beginning)
        self._now = self._state(BreakerState.CLOSED, None)
        if last is None:
            await self._write(self._now)
        else:
            self._changed.set()
            if last.breaker is BreakerState.DISABLED:
                self.breaker.disabled(last.reason or "")
        self._task = asyncio.create_task(self._tell())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop writing: nobody knows the state of a stopped worker's endpoint."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _note(self, state: BreakerState, reason: str | None) -> None:
        self._now = self._state(state, reason)
        self._changed.set()
        log.warning("circuit breaker state changed", endpoint=self._name, state=state.value, reason=reason)

    def _state(self, breaker: BreakerState, reason: str | None) -> EndpointState:
        endpoint = self._endpoint()
        return EndpointState(
            endpoint=self._name,
            tenant=endpoint.tenant,
            types=list(endpoint.types),
            breaker=breaker,
            reason=None if reason is None else reason[:REASON_CHARACTERS_MAX],
            since=self._clock(),
            first_offsets=self._first_offsets,
        )

    async def _tell(self) -> None:
        while True:
            if self._now.breaker is BreakerState.DISABLED and not self._changed.is_set():
                await asyncio.sleep(POLL_INTERVAL_S)
                await self._look()
                continue
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._write(self._now)
            except Transient as error:
                log.warning("endpoint state not published", endpoint=self._name, error=str(error))
                self._changed.set()
                await asyncio.sleep(POLL_INTERVAL_S)

    async def _write(self, state: EndpointState) -> None:
        record = OutgoingRecord(key=state.endpoint.encode(), value=STATE_CODEC.encode(state), headers=[])
        try:
            await self._writer.write(ENDPOINT_STATES, [record])
        except RecordRefused as refusal:
            raise Transient(f"{refusal}; see the topic's settings") from refusal

    async def _look(self) -> None:
        try:
            last = await asyncio.to_thread(self._read_last)
        except Transient:
            return  # asked again soon
        if last is not None and last.breaker is BreakerState.CLOSED:
            self.breaker.enabled()

    async def _beginning(self) -> list[int]:
        """Return the offset to start from, by partition. Raises Transient, Unsettled."""
        topic = self._group.source.name
        count = await PartitionCount(self._kafka, topic)()
        places = [Partition(topic, partition) for partition in range(count)]
        positions = KafkaPositions(self._kafka, self._group.id)
        try:
            committed, accepted = await positions.committed(places), await positions.accepted(places)
            topic_id = (await positions.topic_ids([topic])).get(topic)
        finally:
            await positions.close()
        return [_offset(committed[place], accepted[place], topic_id, self._group.id) for place in places]

    def _read_last(self) -> EndpointState | None:
        consumer = self._looking(group_id="tidegate.endpoints")  # never joined
        deadline_s = monotonic() + READ_TIMEOUT_S
        found: EndpointState | None = None
        try:
            consumer.assign([TopicPartition(ENDPOINT_STATES.name, 0, OFFSET_BEGINNING)])
            while True:
                message = consumer.poll(max(0.0, deadline_s - monotonic()))
                if message is None:
                    raise Transient(f"{ENDPOINT_STATES.name} is not read within {READ_TIMEOUT_S:g} s")
                if error := message.error():
                    if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  its public spelling
                        return found
                    raise Transient(f"{ENDPOINT_STATES.name}: {error.str()}")
                if message.key() == self._name.encode():
                    found = endpoint_state(message.value()) or found
        except KafkaException as error:
            raise Transient(f"{ENDPOINT_STATES.name}: {error}") from error
        finally:
            consumer.close()

    def _looking(self, *, group_id: str) -> Consumer:
        return Consumer(looking_config(self._kafka, group_id=group_id, client_id=f"tidegate-{self._name}"))


def _offset(committed: Position, accepted: Position, topic_id: str | None, group_id: str) -> int:
    """Return the offset to start from: the accepted one if there is one, else the committed one. Raises Unsettled."""
    if accepted.offset is not None and is_accepted(accepted, committed, topic_id):
        return accepted.offset
    if committed.offset is None:
        raise Unsettled(
            f"{group_id} has no offset; of a new group: run `tidegate topics create`; of a recreated topic: run "
            "`tidegate topics accept`"
        )
    return committed.offset


def _earliest(first: list[int] | None, beginning: list[int]) -> list[int] | None:
    # An operator may set the group back, while it has no members, and then more is sent.
    return None if first is None else list(map(min, first, beginning))
