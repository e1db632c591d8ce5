"""The ends of the partitions, read up to what is written now: a reader of its own, since events wait for it."""

from time import monotonic
from typing import Protocol, Self

from confluent_kafka import TopicPartition

from gateway.log.consumer import edges_of, looking_consumer, partitions_of, poll_until
from gateway.log.reader import record_of
from gateway.log.thread import ClientThread
from gateway.sequence.tail import PartitionTail
from schemas.topics import RUN_EVENTS

READ_S = 2.0
WAITING_MAX = 1000  # one read a partition


class Tails(Protocol):
    """The port to the ends of `run.events`. Its methods raise LogUnavailable where Kafka does not answer in time."""

    async def partitions(self) -> int:
        """How many partitions there are."""

    async def extend(self, tail: PartitionTail, *, stored_to: int) -> bool:
        """
        Drop what the store has, and read on up to what was written when this began.

        False if there was no time or room; who calls again gets further.
        """


class TailReader:
    """`Tails` on a consumer that joins no group; an async context manager."""

    def __init__(self, bootstrap: str) -> None:
        """Connect in the background."""
        self._thread = ClientThread("kafka-tail", waiting_max=WAITING_MAX)
        self._consumer = looking_consumer(bootstrap, group_id="tidegate.gateway")
        self._partitions = 0

    async def __aenter__(self) -> Self:
        """Nothing is to be waited for."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close behind the read that still runs."""
        await self._thread.close(self._consumer.close)

    async def partitions(self) -> int:
        """See `Tails.partitions`."""
        if not self._partitions:  # those of a live topic never change
            self._partitions = len(await self._thread.run(partitions_of, self._consumer, RUN_EVENTS.name))
        return self._partitions

    async def extend(self, tail: PartitionTail, *, stored_to: int) -> bool:
        """See `Tails.extend`."""
        return await self._thread.run(self._extend, tail, stored_to)

    def _extend(self, tail: PartitionTail, stored_to: int) -> bool:
        deadline_s = monotonic() + READ_S
        first, end = edges_of(self._consumer, RUN_EVENTS.name, tail.partition)
        tail.begin_at(max(first, stored_to))
        if tail.end >= end:
            return True
        self._consumer.assign([TopicPartition(RUN_EVENTS.name, tail.partition, tail.end)])
        try:
            while tail.end < end and not tail.full:
                message = poll_until(self._consumer, deadline_s)
                if message is None:
                    return False
                if message.error() is None:
                    tail.take(record_of(message))
                else:  # the end: markers of transactions are no records
                    tail.end = max(tail.end, message.offset() or 0)
        finally:
            self._consumer.unassign()
        return tail.end >= end
