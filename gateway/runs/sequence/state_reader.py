"""
A reader of runs' state in the log and the store; together they show everything written before the read began.

The committed offset of persistence is read first, then the store, then the partition from that offset to its end.
What lies below the offset is in the store; what the store does not have yet is in the tail. One read at a time serves
all requests that came before it, whatever their partitions; a request that comes during a read waits for the next,
since this one may have passed what the request depends on. The tails are kept, so that the next read goes on from
their ends.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Self

import structlog

from gateway.errors import HttpError, LogUnavailable, QueueFull, StoreUnavailable
from gateway.kafka.followers import GroupFollower
from gateway.runs.parsing.prepared import EventIdentity
from gateway.runs.sequence.memory import RunKey, RunState
from gateway.runs.sequence.tail import PartitionTail
from gateway.runs.sequence.tail_reader import Tails
from gateway.runs.store import RunStore
from schemas.access.credentials import CurrentCredentials
from schemas.kafka.partitioner import partition_of

READ_TIMEOUT_S = 2.0
RETRY_DELAY_S = 1.0  # until a store or a log that did not answer, or not to its end, is asked again
RECORDS_MAX = 100_000  # held of all tails: some 300 bytes and 20 us each; with more to read, events are unverified
EVENTS_MAX = 10_000  # asked about in one read, and a batch more: the next one answers the others

log = structlog.get_logger()


class _Request(NamedTuple):
    partition: int
    key: RunKey
    events: Sequence[EventIdentity]
    answer: "asyncio.Future[RunState | None]"


class RunStateReader:
    """A reader for all requests; an async context manager, to be left before what it reads is closed."""

    def __init__(
        self, *, tails: Tails, store: RunStore, follower: GroupFollower, credentials: CurrentCredentials
    ) -> None:
        """Read *tails* and *store*; *follower* knows how far persistence is."""
        self._tails = tails
        self._store = store
        self._follower = follower
        self._credentials = credentials
        self._held: dict[int, PartitionTail] = {}
        self._asked: deque[_Request] = deque()  # bounded by how many requests there are
        self._reading: asyncio.Task[None] | None = None
        self._recovering: asyncio.Task[None] | None = None
        self._too_long: set[int] = set()  # partitions whose tail could not be read to its end a moment ago

    async def __aenter__(self) -> Self:
        """Return at once."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Read no more; requests that still wait get no answer."""
        tasks = [task for task in (self._reading, self._recovering) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def read(self, key: RunKey, events: Sequence[EventIdentity]) -> RunState | None:
        """
        Return the state of the run, as far as *events* depend on it; None where that cannot be told in time.
        """
        if self._recovering is not None:
            return None
        try:
            partition = partition_of(key[1].encode(), await self._tails.partitions())
        except HttpError:
            return None
        if partition in self._too_long:
            return None
        answer: asyncio.Future[RunState | None] = asyncio.get_running_loop().create_future()
        self._asked.append(_Request(partition, key, events, answer))
        if self._reading is None:
            self._reading = asyncio.create_task(self._serve())
        return await answer

    async def _serve(self) -> None:
        while self._asked:
            requests = self._next_requests()
            found: Sequence[RunState | None] = [None] * len(requests)
            try:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    found = await self._find(requests)
            except Exception as error:  # noqa: BLE001  # whatever it is, who asks must not wait for ever
                self._doubt(error)
            for request, run_states in zip(requests, found, strict=True):
                if not request.answer.done():
                    request.answer.set_result(run_states)
        self._reading = None

    def _next_requests(self) -> Sequence[_Request]:
        requests: list[_Request] = []
        events = 0
        while self._asked and events < EVENTS_MAX:
            requests.append(self._asked.popleft())
            events += max(1, len(requests[-1].events))
        return requests

    async def _find(self, requests: Sequence[_Request]) -> Sequence[RunState | None]:
        # A position that has outlived its log says nothing of what is stored from the log as it is now.
        committed = {
            partition: 0 if partition in self._follower.faults else each.committed or 0
            for partition, each in self._follower.progress().items()
        }
        stored = await self._store.run_states([(request.key, request.events) for request in requests])
        partitions = await self._tails.partitions()
        tails = {each: self._tail(each, partitions) for each in {request.partition for request in requests}}
        read = await self._tails.extend(tails.values(), stored_to=committed)
        if unread := tails.keys() - read:
            self._too_long |= unread
            asyncio.get_running_loop().call_later(RETRY_DELAY_S, self._too_long.difference_update, unread)
        return [
            tails[each.partition].add_to(stored.get(each.key, RunState()), each.key, each.events)
            if each.partition in read
            else None
            for each in requests
        ]

    def _tail(self, partition: int, partitions: int) -> PartitionTail:
        if partition not in self._held:
            records_max = RECORDS_MAX // partitions
            self._held[partition] = PartitionTail(partition, records_max=records_max, credentials=self._credentials)
        return self._held[partition]

    def _doubt(self, error: Exception) -> None:
        if self._recovering is None:
            ours = not isinstance(error, (StoreUnavailable, LogUnavailable, QueueFull, TimeoutError))
            why = str(error) or type(error).__name__
            log.warning("accepting events without reading the log", error=why, exc_info=error if ours else None)
            self._recovering = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        while True:
            await asyncio.sleep(RETRY_DELAY_S)
            try:
                self._follower.progress()
                await self._store.run_states([])
            except (StoreUnavailable, LogUnavailable):
                continue
            break
        log.info("reading the log again")
        self._recovering = None
