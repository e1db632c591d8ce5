"""
The committed offsets of the consumer groups, as Kafka reports them now, and the records that wait beside the source.

A record that an operator sent back, or that a group deferred, waits in a topic of its own under its original position,
which counts as not passed. Dead letters may be sent back any day: the objects that they refer to are kept. If an answer
does not come in time, that is an error, and nothing is deleted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Protocol, TypeVar

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from processors.runs.retention.letters import letters, object_of, origin
from processors.runs.retention.rules import CommittedFloors, has_passed
from processors.runtime.cluster import REQUEST_S, edges_of, partitions_of
from processors.runtime.errors import Transient
from schemas.archive.topics import archived_topic
from schemas.catalogue import groups_among
from schemas.kafka import lookups
from schemas.kafka.clients import looking_config
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.places import Partition
from schemas.kafka.positions import EXPLANATIONS, WAY_ON, fault
from schemas.kafka.topics import Group, Topic
from schemas.runs.topics import RUN_EVENTS

CATCH_UP_S = 10.0  # groups commit about twice a second
POLL_S = 0.2

Answer = TypeVar("Answer")
Ends = Mapping[int, int]  # by partition of the source: behind the last record


class GroupsProgress(Protocol):
    """
    The port to what Kafka knows of the groups.

    Every method raises Transient where it cannot be told: delete nothing.
    """

    async def passed(self) -> CommittedFloors:
        """Return how far all groups have come, now."""

    async def ends(self) -> Ends:
        """Return where the source ends, now."""

    async def held_objects(self) -> frozenset[str]:
        """Return the objects that letters refer to: dead ones, and those that wait to be handled once more."""


async def everything_passed(
    progress: GroupsProgress, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> bool:
    """Return True if every group passes what the log holds now, within `CATCH_UP_S`: what was written is handled."""
    ends, deadline_s = await progress.ends(), monotonic() + CATCH_UP_S
    for _ in range(round(CATCH_UP_S / POLL_S)):
        if has_passed(await progress.passed(), ends):
            return True
        if monotonic() > deadline_s:  # a look takes long where many letters wait
            break
        await sleep(POLL_S)
    return False


def groups_that_hold(groups: Iterable[Group], source: Topic) -> set[Group]:
    """
    Return those of *groups* whose offsets hold back what was stored of *source*.

    The archive does not: it may be an hour behind, and looks at neither rows nor objects.
    """
    return {group for group in groups if group.source.name == source.name and archived_topic(group) is None}


class KafkaProgress:
    """`GroupsProgress` through a consumer for each group, none of which joins it."""

    def __init__(
        self, kafka: KafkaSettings, groups: Sequence[Group] | None = None, *, source: Topic = RUN_EVENTS
    ) -> None:
        """Ask for *groups*; None: for all that the cluster has, which webhook endpoints make more and fewer."""
        self._kafka = kafka
        self._admin = lookups.admin_client(kafka)
        self._groups = groups
        self._source = source
        self._consumers: dict[Group, Consumer] = {}

    async def passed(self) -> CommittedFloors:
        """See `GroupsProgress.passed`."""
        return await self._asked(self._passed)

    async def ends(self) -> Ends:
        """See `GroupsProgress.ends`."""
        return await self._asked(self._ends)

    async def held_objects(self) -> frozenset[str]:
        """See `GroupsProgress.held_objects`."""
        return await self._asked(self._held_objects)

    async def _asked(self, ask: Callable[[], Answer]) -> Answer:
        try:
            return await asyncio.to_thread(self._of_groups_now, ask)  # confluent's calls block
        except KafkaException as error:
            raise Transient(f"Kafka does not tell how far the groups are: {error}") from error

    def _of_groups_now(self, ask: Callable[[], Answer]) -> Answer:
        groups = groups_among(self._topic_names()) if self._groups is None else self._groups
        wanted = groups_that_hold(groups, self._source)
        for gone in self._consumers.keys() - wanted:
            self._consumers.pop(gone).close()
        for new in wanted - self._consumers.keys():
            self._consumers[new] = _consumer(self._kafka, new)
        return ask()

    def _topic_names(self) -> Sequence[str]:
        return list(self._admin.list_topics(timeout=REQUEST_S).topics)

    def _passed(self) -> CommittedFloors:
        if not self._consumers:
            raise Transient(f"no group consumes {self._source.name}: what they have not passed cannot be told")
        floors: dict[int, int] = {}
        for group, consumer in self._consumers.items():
            self._check_positions(group, consumer)
            for partition, committed in _committed(consumer, self._source.name).items():
                floors[partition] = min(committed, floors.get(partition, committed))
            for letter in self._waiting(group, consumer):
                if (place := origin(letter, self._source)) is not None:
                    partition, offset = place
                    floors[partition] = min(offset, floors.get(partition, offset))
        return CommittedFloors(floors=floors)

    def _check_positions(self, group: Group, consumer: Consumer) -> None:
        """See that the log holds what the group's offsets stand for. Raises Transient where it does not."""
        places = [Partition(self._source.name, partition) for partition in _partitions(consumer, self._source.name)]
        ids = lookups.topic_ids(self._admin, [self._source.name], timeout_s=REQUEST_S)
        positions = lookups.positions(consumer, places, timeout_s=REQUEST_S)
        # Looked up last: a position that the group commits meanwhile would lie beyond an older end.
        logs = lookups.logs(self._admin, places, ids=ids, timeout_s=REQUEST_S)
        for place, position in positions.items():
            found = fault(position, logs[place], partial(lookups.digest_at, consumer, place, timeout_s=REQUEST_S))
            if found is not None:
                raise Transient(f"{group.id} is stopped at {place}: {EXPLANATIONS[found]}; {WAY_ON}")

    def _ends(self) -> Ends:
        consumer = next(iter(self._consumers.values()))
        return {
            each: edges_of(consumer, Partition(self._source.name, each))[1]
            for each in _partitions(consumer, self._source.name)
        }

    def _held_objects(self) -> frozenset[str]:
        held: set[str] = set()
        for group, consumer in self._consumers.items():
            dead = group.dead_letters.name
            beginnings = {each: edges_of(consumer, Partition(dead, each))[0] for each in _partitions(consumer, dead)}
            for those in (self._waiting(group, consumer), letters(consumer, dead, beginnings)):
                held.update(key for letter in those if (key := object_of(letter.value())) is not None)
        return frozenset(held)

    def _waiting(self, group: Group, consumer: Consumer) -> Iterator[Message]:
        """Yield what the group has yet to handle once more: of every topic that it consumes beside its source."""
        for topic in group.sources:
            if topic.name != self._source.name:
                yield from letters(consumer, topic.name, _committed(consumer, topic.name))


def _consumer(kafka: KafkaSettings, group: Group) -> Consumer:
    config = looking_config(kafka, group_id=group.id, client_id="tidegate-maintenance")
    return Consumer(config | {"auto.offset.reset": "earliest"})  # of a place that has expired: what is left


def _partitions(consumer: Consumer, topic: str) -> Sequence[int]:
    found = partitions_of(consumer, topic)
    if not found:
        raise Transient(f"the topic {topic} is not there: run `tidegate topics create`")
    return found


def _committed(consumer: Consumer, topic: str) -> dict[int, int]:
    """Return what the group has committed by partition; where it has nothing, it has passed nothing."""
    asked = [TopicPartition(topic, partition) for partition in _partitions(consumer, topic)]
    answered = consumer.committed(asked, timeout=REQUEST_S)
    for place in answered:
        if place.error is not None:
            raise KafkaException(place.error)
    return {place.partition: max(0, place.offset) for place in answered}
