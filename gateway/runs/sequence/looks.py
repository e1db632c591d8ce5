"""
Looks at what the log and the store hold of a run: together, everything that was written before the look began.

The committed offset of persistence is read first, then the store, then the partition from that offset to its end.
What lies below the offset is in the store; what the store does not have yet is in the tail. One look at a time serves
all who ask meanwhile, whatever their partitions; who comes during a look waits for the next, since that one may have
passed what he was told of. The tails are kept, so that the next look reads on from their ends.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Self

import structlog

from gateway.errors import LogUnavailable, QueueFull, Refused, StoreUnavailable
from gateway.kafka.followers import GroupFollower
from gateway.runs.parsing.offers import Candidate
from gateway.runs.sequence.memory import Known, RunKey
from gateway.runs.sequence.tail import PartitionTail
from gateway.runs.sequence.tail_reader import Tails
from gateway.runs.store import RunStore
from schemas.access.credentials import CurrentCredentials
from schemas.kafka.partitioner import partition_of

LOOK_S = 2.0
AGAIN_S = 1.0  # until a store or a log that did not answer, or not to its end, is asked again
RECORDS_MAX = 100_000  # held of all tails: some 300 bytes and 20 us each; with more to read, events are unverified
EVENTS_MAX = 10_000  # asked about in one look, and a batch more: the next one answers the others

log = structlog.get_logger()


class _Question(NamedTuple):
    partition: int
    key: RunKey
    events: Sequence[Candidate]
    answer: "asyncio.Future[Known | None]"


class Looks:
    """Asks for all who want to know; an async context manager, to be left before what it looks into is closed."""

    def __init__(
        self, *, tails: Tails, store: RunStore, follower: GroupFollower, credentials: CurrentCredentials
    ) -> None:
        """Look into *tails* and *store*; *follower* knows how far persistence is."""
        self._tails = tails
        self._store = store
        self._follower = follower
        self._credentials = credentials
        self._held: dict[int, PartitionTail] = {}
        self._asked: deque[_Question] = deque()  # bounded by how many requests there are
        self._looking: asyncio.Task[None] | None = None
        self._recovering: asyncio.Task[None] | None = None
        self._too_long: set[int] = set()  # partitions whose tail could not be read to its end a moment ago

    async def __aenter__(self) -> Self:
        """Return at once."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Look no more; who still asks is told nothing."""
        tasks = [task for task in (self._looking, self._recovering) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self, key: RunKey, events: Sequence[Candidate]) -> Known | None:
        """
        Return what is known of the run, and under the numbers of *events*; None where that cannot be told in time.
        """
        if self._recovering is not None:
            return None
        try:
            partition = partition_of(key[1].encode(), await self._tails.partitions())
        except Refused:
            return None
        if partition in self._too_long:
            return None
        answer: asyncio.Future[Known | None] = asyncio.get_running_loop().create_future()
        self._asked.append(_Question(partition, key, events, answer))
        if self._looking is None:
            self._looking = asyncio.create_task(self._serve())
        return await answer

    async def _serve(self) -> None:
        while self._asked:
            questions = self._next_questions()
            found: Sequence[Known | None] = [None] * len(questions)
            try:
                async with asyncio.timeout(LOOK_S):
                    found = await self._find(questions)
            except Exception as error:  # noqa: BLE001  # whatever it is, who asks must not wait for ever
                self._doubt(error)
            for question, known in zip(questions, found, strict=True):
                if not question.answer.done():
                    question.answer.set_result(known)
        self._looking = None

    def _next_questions(self) -> Sequence[_Question]:
        questions: list[_Question] = []
        events = 0
        while self._asked and events < EVENTS_MAX:
            questions.append(self._asked.popleft())
            events += max(1, len(questions[-1].events))
        return questions

    async def _find(self, questions: Sequence[_Question]) -> Sequence[Known | None]:
        # A position that has outlived its log says nothing of what is stored from the log as it is now.
        committed = {
            partition: 0 if partition in self._follower.faults else each.committed or 0
            for partition, each in self._follower.progress().items()
        }
        stored = await self._store.known([(question.key, question.events) for question in questions])
        partitions = await self._tails.partitions()
        tails = {each: self._tail(each, partitions) for each in {question.partition for question in questions}}
        read = await self._tails.extend(tails.values(), stored_to=committed)
        if unread := tails.keys() - read:
            self._too_long |= unread
            asyncio.get_running_loop().call_later(AGAIN_S, self._too_long.difference_update, unread)
        return [
            tails[each.partition].add_to(stored.get(each.key, Known()), each.key, each.events)
            if each.partition in read
            else None
            for each in questions
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
            await asyncio.sleep(AGAIN_S)
            try:
                self._follower.progress()
                await self._store.known([])
            except (StoreUnavailable, LogUnavailable):
                continue
            break
        log.info("reading the log again")
        self._recovering = None
