"""The ends of the partitions, read up to what is written now: a reader of its own, since events wait for it."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from time import monotonic
from typing import Protocol, Self

from confluent_kafka import TopicPartition

from gateway.errors import LogUnavailable
from gateway.kafka.consumer import Unreadable, edges_of, looking_consumer, messages_until, partitions_of
from gateway.kafka.reader import record_of
from gateway.kafka.thread import ClientThread
from gateway.runs.sequence.tail import PartitionTail
from schemas.kafka.connection import KafkaSettings
from schemas.runs.topics import RUN_EVENTS

READ_TIMEOUT_S = 1.0  # well below the time that a look has: what was read by then counts


class Tails(Protocol):
    """The port to the ends of `run.events`. Its methods raise LogUnavailable where Kafka does not answer in time."""

    async def partitions(self) -> int:
        """Return how many partitions there are."""

    async def extend(self, tails: Collection[PartitionTail], *, stored_to: Mapping[int, int]) -> frozenset[int]:
        """
        Drop what the store has, and read each of *tails* on up to what was written when this began.

        *stored_to* is by partition, as is what is returned: those for which there was time and room. Who calls again
        gets further with the others.
        """


class TailReader:
    """`Tails` on a consumer that joins no group; an async context manager."""

    def __init__(self, kafka: KafkaSettings) -> None:
        """Connect in the background."""
        self._thread = ClientThread("kafka-tail")
        self._consumer = looking_consumer(kafka, group_id="tidegate.gateway")
        self._partitions = 0

    async def __aenter__(self) -> Self:
        """Ask for the partitions, before a crowd of first events does."""
        with suppress(LogUnavailable):
            await self.partitions()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close behind the read that still runs."""
        await self._thread.close(self._consumer.close)

    async def partitions(self) -> int:
        """See `Tails.partitions`."""
        if not self._partitions:  # those of a live topic never change
            self._partitions = len(await self._thread.run(partitions_of, self._consumer, RUN_EVENTS.name))
        return self._partitions

    async def extend(self, tails: Collection[PartitionTail], *, stored_to: Mapping[int, int]) -> frozenset[int]:
        """See `Tails.extend`."""
        return await self._thread.run(self._extend, tails, stored_to)

    def _extend(self, tails: Collection[PartitionTail], stored_to: Mapping[int, int]) -> frozenset[int]:
        deadline_s = monotonic() + READ_TIMEOUT_S
        edges = edges_of(self._consumer, RUN_EVENTS.name, [tail.partition for tail in tails])
        for tail in tails:
            first, _ = edges[tail.partition]
            tail.begin_at(max(first, stored_to.get(tail.partition, 0)))
        ends = {partition: end for partition, (_, end) in edges.items()}
        self._read({tail.partition: tail for tail in tails if _goes_on(tail, ends)}, ends, deadline_s)
        return frozenset(tail.partition for tail in tails if tail.end >= ends[tail.partition])

    def _read(self, unread: dict[int, PartitionTail], ends: Mapping[int, int], deadline_s: float) -> None:
        while unread:
            try:
                self._read_on(unread, ends, deadline_s)
            except Unreadable as record:
                # Persistence makes it a dead letter: it is no event of any run.
                tail = unread.get(record.partition)
                if tail is not None:
                    tail.end = max(tail.end, record.offset + 1)
                    if not _goes_on(tail, ends):
                        del unread[record.partition]
            else:
                return

    def _read_on(self, unread: dict[int, PartitionTail], ends: Mapping[int, int], deadline_s: float) -> None:
        self._consumer.assign([_end_of(tail) for tail in unread.values()])
        try:
            for message in messages_until(self._consumer, deadline_s):
                partition = message.partition() or 0
                if (tail := unread.get(partition)) is None:  # what came beyond its end
                    continue
                if message.error() is None:
                    tail.add(record_of(message))
                else:  # the end: markers of transactions are no records
                    tail.end = max(tail.end, message.offset() or 0)
                if not _goes_on(tail, ends):
                    del unread[partition]
                    if not unread:
                        return
                    self._consumer.pause([_end_of(tail)])
        finally:
            self._consumer.resume(self._consumer.assignment())  # a pause would outlive the assignment
            self._consumer.unassign()


def _goes_on(tail: PartitionTail, ends: Mapping[int, int]) -> bool:
    return tail.end < ends[tail.partition] and not tail.full


def _end_of(tail: PartitionTail) -> TopicPartition:
    return TopicPartition(RUN_EVENTS.name, tail.partition, tail.end)
