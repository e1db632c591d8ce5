"""The log as it is read for sockets that come back: a place and what follows it; and where topics end."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import ParamSpec, Protocol, Self, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from processors.fanout.places import TopicEnds
from processors.fanout.streams.table import SOURCES
from processors.runtime.batch import RawRecord
from processors.runtime.cluster import START_S, edges_of, partitions_of
from processors.runtime.errors import Transient
from schemas.kafka import lookups
from schemas.kafka.clients import headers_of, is_unreadable, looking_config
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.places import Partition
from schemas.kafka.topics import Topic

READ_TIMEOUT_S = 2.0
SLICE_RECORDS_MAX = 1000
SLICE_BYTES_MAX = 4 * 1024 * 1024  # and the record that passes it
QUEUED_KIB_MAX = 8 * 1024

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class Expired(Exception):
    """The log has no longer what is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSlice:
    """The records from a given position on."""

    records: Sequence[RawRecord]
    next_offset: int  # all before it, from the place on, is in `records`


class Log(Protocol):
    """The port to the log; its methods raise Transient where Kafka does not answer in time."""

    async def read(self, partition: Partition, start: int, end: int) -> LogSlice:
        """
        Return the records from *start* on and below *end*, or the first of them.

        Raises:
            Expired: the log begins after *start*.
        """

    async def ends(self, topic: Topic) -> dict[int, int]:
        """Return where each partition ends now."""


class KafkaLog:
    """`Log` on consumers that join no group: one that reads, one that asks; an async context manager."""

    def __init__(self, kafka: KafkaSettings) -> None:
        """Connect in the background."""
        self._kafka = kafka
        self._reading, self._asking = _Client(kafka, "log-read"), _Client(kafka, "log-ask")
        self._at: tuple[Partition, int] | None = None  # where the reading one goes on

    async def __aenter__(self) -> Self:
        """Return at once."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close behind what still runs."""
        await self._reading.close()
        await self._asking.close()

    async def topics(self) -> dict[str, TopicEnds]:
        """Return what the hub begins with."""
        topics = [source.topic for source in SOURCES.values()]
        admin, names = lookups.admin_client(self._kafka), {topic.name for topic in topics}
        ids = await self._asking.run(lookups.topic_ids, admin, names, timeout_s=START_S)
        if missing := names - ids.keys():
            raise Transient(f"the log cannot be read: topic {', '.join(sorted(missing))} does not exist")
        return {topic.name: TopicEnds(id=ids[topic.name], ends=await self.ends(topic)) for topic in topics}

    async def ends(self, topic: Topic) -> dict[int, int]:
        """See `Log.ends`."""
        return await self._asking.run(self._ends, topic.name)

    async def read(self, partition: Partition, start: int, end: int) -> LogSlice:
        """See `Log.read`."""
        if start >= end:
            return LogSlice(records=(), next_offset=start)
        return await self._reading.run(self._read, partition, start, end)

    def _ends(self, topic: str) -> dict[int, int]:
        consumer = self._asking.consumer
        return {each: edges_of(consumer, Partition(topic, each))[1] for each in partitions_of(consumer, topic)}

    def _read(self, partition: Partition, start: int, end: int) -> LogSlice:
        consumer = self._reading.consumer
        if self._at != (partition, start):
            if start < edges_of(consumer, partition)[0]:
                raise Expired(f"{partition.topic}/{partition.partition} begins after {start}")
            consumer.assign([TopicPartition(*partition, start)])
        self._at = None  # until all has gone well
        records, next_offset = self._collect(consumer, start, end)
        if next_offset < end:
            self._at = (partition, next_offset)
        else:
            consumer.unassign()  # or it would go on to fetch
        return LogSlice(records=records, next_offset=next_offset)

    def _collect(self, consumer: Consumer, start: int, end: int) -> tuple[list[RawRecord], int]:
        records: list[RawRecord] = []
        next_offset, size_bytes, deadline_s = start, 0, monotonic() + READ_TIMEOUT_S
        while next_offset < end and len(records) < SLICE_RECORDS_MAX and size_bytes < SLICE_BYTES_MAX:
            message = consumer.poll(max(0.0, deadline_s - monotonic()))
            if message is None:
                raise Transient(f"nothing was read within {READ_TIMEOUT_S:g} s")
            if (error := message.error()) is not None:
                if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # its public spelling
                    return records, end  # what is left are markers of transactions
                if not is_unreadable(error):
                    raise KafkaException(error)
                # Nobody is shown such a record: it is passed over.
                next_offset = max(next_offset, (message.offset() or 0) + 1)
                consumer.seek(TopicPartition(message.topic() or "", message.partition() or 0, next_offset))
                continue
            record = _raw(message)
            if record.offset >= end:
                return records, end
            records.append(record)
            next_offset = record.offset + 1
            size_bytes += len(record.value or b"")
        return records, next_offset


class _Client:
    """A consumer and the one thread that uses it, since its calls block."""

    def __init__(self, kafka: KafkaSettings, name: str) -> None:
        self.consumer = looking_consumer(kafka, group_id="tidegate.fanout", client_id=f"tidegate-fanout-{name}")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, call: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        try:
            return await asyncio.wrap_future(self._thread.submit(call, *args, **kwargs))
        except KafkaException as error:
            if lookups.error_code(error) == KafkaError.OFFSET_OUT_OF_RANGE:
                raise Expired(str(error)) from error
            raise Transient(f"the log cannot be read: {error}") from error

    async def close(self) -> None:
        with suppress(KafkaException):
            await asyncio.wrap_future(self._thread.submit(self.consumer.close))
        self._thread.shutdown(wait=False)


def looking_consumer(kafka: KafkaSettings, *, group_id: str, client_id: str, follows: bool = False) -> Consumer:
    """Return a consumer that joins no group and commits nothing; *group_id* is the one whose offsets it may ask for."""
    config = looking_config(kafka, group_id=group_id, client_id=client_id, follows=follows)
    return Consumer(config | {"queued.max.messages.kbytes": QUEUED_KIB_MAX})


def _raw(message: Message) -> RawRecord:
    _, timestamp_ms = message.timestamp()
    return RawRecord(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        timestamp_ms,
        message.key(),
        message.value(),
        headers_of(message),
    )
