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

from processors.evaluation.breaker import Breaker
from processors.runtime.dead_letters import LogWriter, Outgoing
from processors.runtime.errors import Transient
from schemas import codec
from schemas.consumer import looking_config
from schemas.endpoints import Endpoint
from schemas.events import BreakerState, EndpointState
from schemas.topics import ENDPOINT_STATES

LOOK_EVERY_S = 2.0
READ_S = 10.0
REASON_CHARACTERS_MAX = 500

log = structlog.get_logger()


class EndpointStates:
    """Tells the log of one endpoint's breaker; an async context manager."""

    def __init__(
        self,
        name: str,
        endpoint: Callable[[], Endpoint],
        *,
        bootstrap: str,
        writer: LogWriter,
        clock: Callable[[], datetime],
    ) -> None:
        """Keep the state of endpoint *name*; the context tells it a first time."""
        self._name = name
        self._endpoint = endpoint
        self._bootstrap = bootstrap
        self._writer = writer
        self._clock = clock
        self._changed = asyncio.Event()
        self.breaker = Breaker(changed=self._note)
        self._now = self._state(BreakerState.CLOSED, None)

    async def __aenter__(self) -> Self:
        """
        Take over that the endpoint is disabled, if it is; then tell the log whatever changes.

        Raises:
            Transient: the log does not answer.
        """
        last = await asyncio.to_thread(self._read_last)
        if last is not None and last.breaker is BreakerState.DISABLED:
            self.breaker.disabled(last.reason or "")
        self._changed.set()
        self._task = asyncio.create_task(self._tell())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Tell no more: what a stopped worker's endpoint is like, nobody knows."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _note(self, state: BreakerState, reason: str | None) -> None:
        self._now = self._state(state, reason)
        self._changed.set()
        log.warning("breaker changes", endpoint=self._name, state=state.value, reason=reason)

    def _state(self, breaker: BreakerState, reason: str | None) -> EndpointState:
        endpoint = self._endpoint()
        return EndpointState(
            endpoint=self._name,
            tenant=endpoint.tenant,
            types=list(endpoint.types),
            breaker=breaker,
            reason=None if reason is None else reason[:REASON_CHARACTERS_MAX],
            since=self._clock(),
        )

    async def _tell(self) -> None:
        while True:
            if self._now.breaker is BreakerState.DISABLED and not self._changed.is_set():
                await asyncio.sleep(LOOK_EVERY_S)
                await self._look()
                continue
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._write(self._now)
            except Transient as error:
                log.warning("the endpoint's state is not told", endpoint=self._name, why=str(error))
                self._changed.set()
                await asyncio.sleep(LOOK_EVERY_S)

    async def _write(self, state: EndpointState) -> None:
        record = Outgoing(key=state.endpoint.encode(), value=codec.encode(state), headers=[])
        await self._writer.write(ENDPOINT_STATES, [record])

    async def _look(self) -> None:
        try:
            last = await asyncio.to_thread(self._read_last)
        except Transient:
            return  # asked again soon
        if last is not None and last.breaker is BreakerState.CLOSED:
            self.breaker.enabled()

    def _read_last(self) -> EndpointState | None:
        group = "tidegate.endpoints"  # never joined
        consumer = Consumer(looking_config(self._bootstrap, group_id=group, client_id=f"tidegate-{self._name}"))
        deadline_s = monotonic() + READ_S
        found: EndpointState | None = None
        try:
            consumer.assign([TopicPartition(ENDPOINT_STATES.name, 0, OFFSET_BEGINNING)])
            while True:
                message = consumer.poll(max(0.0, deadline_s - monotonic()))
                if message is None:
                    raise Transient(f"{ENDPOINT_STATES.name} is not read within {READ_S:g} s")
                if error := message.error():
                    if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  its public spelling
                        return found
                    raise Transient(f"{ENDPOINT_STATES.name}: {error.str()}")
                if message.key() == self._name.encode():
                    found = codec.endpoint_state(message.value()) or found
        except KafkaException as error:
            raise Transient(f"{ENDPOINT_STATES.name}: {error}") from error
        finally:
            consumer.close()
