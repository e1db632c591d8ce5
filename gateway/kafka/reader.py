"""
The log, read at a place: one record, the ends of a topic, what was put aside, who is in a group.

Every look is bounded in time, and one thread serves them all, so that asking cannot load Kafka.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any, Protocol, Self

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec

from gateway.errors import LogUnavailable
from gateway.kafka.consumer import (
    REQUEST_S,
    Unreadable,
    edges_of,
    looking_consumer,
    messages_until,
    offsets_at,
    partitions_of,
    poll_until,
)
from gateway.kafka.thread import ClientThread
from schemas.kafka import headers, lookups
from schemas.kafka.clients import headers_of
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.places import Partition, RecordPlace
from schemas.kafka.positions import Position, PositionFault, fault
from schemas.kafka.topics import Group
from schemas.kafka.transactions import OpenTransaction, TransactionsUnknown, open_transactions

READ_TIMEOUT_S = 2.0
# A dead letter has its worker's clock, its record the gateway's.
CLOCK_SKEW = timedelta(hours=1)
VERIFIED_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One record as the broker has it."""

    place: RecordPlace
    written_at: datetime | None  # None: it has no time
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """The extent of one partition: offsets from `first`, below `end`, and the undecided records behind `end`."""

    first: int
    end: int  # the last stable offset: nobody who reads committed records sees what lies behind it
    undecided: int = 0  # records from `end` to the high watermark: an open transaction began at `end`


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """A place that was written to."""

    edges: Edges
    record: LogRecord | None  # None: expired
    undecided: bool = False  # it lies behind the beginning of an open transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A look through what a group has put aside."""

    last: LogRecord | None  # the newest copy of the record: deferred, dead-lettered or sent back
    complete: bool  # False: there was no time to look at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """The state and the number of members of a consumer group."""

    state: str  # Kafka's word: Stable, Empty, PreparingRebalance, ...
    members: int


class Log(Protocol):
    """
    The port to the log's reading side.

    Every method raises QueueFull where too many look already (answer 429), and LogUnavailable where Kafka
    does not answer in time (answer 503).
    """

    async def entry(self, place: RecordPlace) -> LogEntry | None:
        """
        Return what is at *place*; None if there is no such topic or partition, or nothing was written there (yet).
        """

    async def set_aside(self, group: Group, place: RecordPlace, *, written_at: datetime | None) -> Search:
        """Search what *group* put aside for the record of *place*, from *written_at* on, for a bounded time."""

    async def edges(self, topic: str) -> Mapping[int, Edges]:
        """Return the edges of each partition; empty if there is no such topic."""

    async def topic_id(self, topic: str) -> str | None:
        """
        Return Kafka's id of a topic, which changes when the topic is deleted and recreated; None if there is no topic.
        """

    async def faults(self, topic: str, positions: Mapping[int, Position]) -> Mapping[int, PositionFault]:
        """
        Return those of a group's *positions* in the partitions of *topic* that no longer stand for what it has handled.
        """

    async def open_transaction(self, topic: str, partition: int) -> OpenTransaction | None:
        """Return the oldest open transaction in a partition; None if there is none."""

    async def written_at(self, places: Sequence[RecordPlace]) -> Mapping[RecordPlace, datetime]:
        """
        Return when the first record at or after each of *places*, one a partition, was written, as far as could be read
        in time.
        """

    async def membership(self, group: Group) -> Membership | None:
        """Return the members of *group*; None while its coordinator does not report them."""


class LogReader:
    """`Log` on a consumer that joins no group; an async context manager."""

    def __init__(self, kafka: KafkaSettings) -> None:
        """Connect in the background."""
        self._kafka = kafka
        self._thread = ClientThread("kafka-look")
        self._consumer = looking_consumer(kafka, group_id="tidegate.gateway")
        self._uncommitted = looking_consumer(kafka, group_id="tidegate.gateway", committed_only=False)
        self._admin = lookups.admin_client(kafka)
        # Positions whose marks were found in the log at its leader epoch, the oldest first: each is read once.
        self._verified: dict[tuple[str, int, Position, int], None] = {}

    async def __aenter__(self) -> Self:
        """Return at once."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close behind the look that still runs."""
        await self._thread.run(self._uncommitted.close)
        await self._thread.close(self._consumer.close)

    async def entry(self, place: RecordPlace) -> LogEntry | None:
        """See `Log.entry`."""
        return await self._thread.run(self._entry, place)

    async def set_aside(self, group: Group, place: RecordPlace, *, written_at: datetime | None) -> Search:
        """See `Log.set_aside`."""
        # In the order in which an attempt leads through them: a dead letter is sent back, and fails into the tiers.
        topics = [group.dead_letters, group.redrive, *(tier.topic for tier in group.tiers)]
        return await self._thread.run(self._search, [topic.name for topic in topics], place, written_at)

    async def edges(self, topic: str) -> Mapping[int, Edges]:
        """See `Log.edges`."""
        return await self._thread.run(self._edges, topic)

    async def topic_id(self, topic: str) -> str | None:
        """See `Log.topic_id`."""
        return await self._thread.run(self._topic_id, topic)

    async def faults(self, topic: str, positions: Mapping[int, Position]) -> Mapping[int, PositionFault]:
        """See `Log.faults`."""
        return await self._thread.run(self._faults, topic, positions) if positions else {}

    async def open_transaction(self, topic: str, partition: int) -> OpenTransaction | None:
        """See `Log.open_transaction`."""
        try:
            found = await open_transactions(self._kafka, Partition(topic, partition), timeout_s=REQUEST_S)
        except TransactionsUnknown as error:
            raise LogUnavailable(f"Kafka does not list its open transactions: {error}") from error
        return found[0] if found else None

    async def written_at(self, places: Sequence[RecordPlace]) -> Mapping[RecordPlace, datetime]:
        """See `Log.written_at`."""
        return await self._thread.run(self._written_at, places) if places else {}

    async def membership(self, group: Group) -> Membership | None:
        """See `Log.membership`."""
        return await self._thread.run(self._membership, group.id)

    def _entry(self, place: RecordPlace) -> LogEntry | None:
        if place.partition not in partitions_of(self._consumer, place.topic):
            return None
        edges = self._edges_of(place.topic, [place.partition])[place.partition]
        if place.offset >= edges.end + edges.undecided:
            return None
        if place.offset < edges.first:
            return LogEntry(edges=edges, record=None)
        undecided = place.offset >= edges.end
        consumer = self._uncommitted if undecided else self._consumer
        consumer.assign([_partition(place)])
        try:
            record = _next(consumer)
        except Unreadable:
            record = LogRecord(place=place, written_at=None, key=None, value=None, headers=())
        finally:
            consumer.unassign()
        # An offset that a transaction's marker took, or that compaction left empty, is no record's.
        if record is None or record.place != place:
            return None
        return LogEntry(edges=edges, record=record, undecided=undecided)

    def _search(self, topics: Sequence[str], place: RecordPlace, written_at: datetime | None) -> Search:
        deadline_s = monotonic() + READ_TIMEOUT_S
        starts = [TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in topics]  # each has one partition
        if written_at is not None:
            # Not negative: to Kafka such a time is one of its special offsets.
            earliest_ms = max(0, round((written_at.timestamp() - CLOCK_SKEW.total_seconds()) * 1000))
            asked = [TopicPartition(topic, 0, earliest_ms) for topic in topics]
            starts = offsets_at(self._consumer, asked)
        found: list[LogRecord] = []
        unread = len(topics)
        self._consumer.assign(starts)
        try:
            for message in messages_until(self._consumer, deadline_s):
                if message.error() is not None:
                    unread -= 1
                elif _comes_from(copy := record_of(message), place):
                    found.append(copy)
                if not unread:
                    break
        finally:
            self._consumer.unassign()
        return Search(last=_newest(found, topics), complete=not unread)

    def _written_at(self, places: Sequence[RecordPlace]) -> Mapping[RecordPlace, datetime]:
        wanted = {(place.topic, place.partition): place for place in places}
        found: dict[RecordPlace, datetime] = {}
        deadline_s = monotonic() + READ_TIMEOUT_S
        self._consumer.assign([_partition(place) for place in places])
        try:
            while len(found) < len(places) and (message := poll_until(self._consumer, deadline_s)) is not None:
                place = wanted[message.topic() or "", message.partition() or 0]
                moment = _written_at(message)
                if message.error() is None and place not in found and moment is not None:
                    found[place] = moment
                    self._consumer.pause([_partition(place)])
        finally:
            self._consumer.resume(self._consumer.assignment())  # a pause would outlive the assignment
            self._consumer.unassign()
        return found

    def _membership(self, group_id: str) -> Membership | None:
        # Why this call, old as it is: describe_consumer_groups aborts the process when the broker dies meanwhile
        # (librdkafka 2.16, "Assertion `eonce->refcnt > 0' failed").
        described: Any = self._admin.list_groups(group_id, timeout=REQUEST_S)
        return next((Membership(state=each.state, members=len(each.members)) for each in described), None)

    def _topic_id(self, topic: str) -> str | None:
        return lookups.topic_ids(self._admin, [topic], timeout_s=REQUEST_S).get(topic)

    def _faults(self, topic: str, positions: Mapping[int, Position]) -> Mapping[int, PositionFault]:
        ids = lookups.topic_ids(self._admin, [topic], timeout_s=REQUEST_S)
        if topic not in ids:
            return dict.fromkeys(positions, PositionFault.RECREATED)
        logs = lookups.logs(self._admin, [Partition(topic, each) for each in positions], ids=ids, timeout_s=REQUEST_S)
        found: dict[int, PositionFault] = {}
        for partition, position in positions.items():
            log = logs[Partition(topic, partition)]
            verified = (topic, partition, position, log.epoch)
            if verified in self._verified:
                continue
            digest_at = partial(lookups.digest_at, self._consumer, Partition(topic, partition), timeout_s=REQUEST_S)
            if (wrong := fault(position, log, digest_at)) is not None:
                found[partition] = wrong
            elif position.mark is not None and position.mark.epoch != log.epoch:
                self._verified[verified] = None
                if len(self._verified) > VERIFIED_MAX:
                    del self._verified[next(iter(self._verified))]
        return found

    def _edges(self, topic: str) -> Mapping[int, Edges]:
        return self._edges_of(topic, partitions_of(self._consumer, topic))

    def _edges_of(self, topic: str, partitions: Sequence[int]) -> Mapping[int, Edges]:
        places = [Partition(topic, partition) for partition in partitions]
        # In this order: what is appended in between must not look like records of an open transaction.
        ends = lookups.offsets(self._admin, places, OffsetSpec.latest(), timeout_s=REQUEST_S)
        stable = edges_of(self._consumer, topic, partitions)
        return {
            partition: Edges(first=first, end=end, undecided=max(0, ends[Partition(topic, partition)].offset - end))
            for partition, (first, end) in stable.items()
        }


def _next(consumer: Consumer) -> LogRecord | None:
    """Return the next record of what is assigned, None at its end. Raises LogUnavailable: none came in time."""
    message = poll_until(consumer, monotonic() + READ_TIMEOUT_S)
    if message is None:
        raise LogUnavailable(f"nothing was read within {READ_TIMEOUT_S:g} s")
    return None if message.error() is not None else record_of(message)


def _partition(place: RecordPlace) -> TopicPartition:
    return TopicPartition(place.topic, place.partition, place.offset)


def record_of(message: Message) -> LogRecord:
    """Return what *message* holds."""
    return LogRecord(
        place=RecordPlace(message.topic() or "", message.partition() or 0, message.offset() or 0),
        written_at=_written_at(message),
        key=message.key(),
        value=message.value(),
        headers=headers_of(message),
    )


def _written_at(message: Message) -> datetime | None:
    kind, moment_ms = message.timestamp()
    return None if kind == TIMESTAMP_NOT_AVAILABLE else headers.moment_of(moment_ms)


def _newest(copies: Sequence[LogRecord], topics: Sequence[str]) -> LogRecord | None:
    """Return the last of *copies*; each attempt leads through *topics* in their order, whatever the clocks say."""

    def way(copy: LogRecord) -> tuple[int, int, int]:
        attempt = headers.number_of(headers.find(copy.headers, headers.ATTEMPT))
        return attempt or 0, topics.index(copy.place.topic), copy.place.offset

    return max(copies, key=way, default=None)


def _comes_from(letter: LogRecord, place: RecordPlace) -> bool:
    origin = (headers.ORIGINAL_TOPIC, headers.ORIGINAL_PARTITION, headers.ORIGINAL_OFFSET)
    return [headers.find(letter.headers, name) for name in origin] == [
        place.topic.encode(),
        b"%d" % place.partition,
        b"%d" % place.offset,
    ]
