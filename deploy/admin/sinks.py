"""Sinks as an operator sees them: how far each is behind, and orders to skip what it does not take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from deploy.admin import lag, topics
from deploy.errors import CommandFailed
from deploy.log.writing import Writer
from schemas.kafka import headers
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.lookups import admin_client
from schemas.kafka.topics import Group
from schemas.sinks.topics import sink_of, skipping

SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedRange:
    """The records of a partition that an order lets a sink skip: from `first` up to, not including, `end`."""

    group: Group
    partition: int
    first: int
    end: int

    @property
    def count(self) -> int:
        """Return the number of offsets."""
        return self.end - self.first


def groups(kafka: KafkaSettings) -> Sequence[Group]:
    """
    Return the groups of the cluster's sinks.

    Raises:
        NotReachable: no broker answers.
    """
    return [group for group in topics.groups_of(kafka) if sink_of(group) is not None]


def waiting(kafka: KafkaSettings) -> Mapping[str, int]:
    """
    Return how many records of its source each group has not passed, by the group's name.

    Raises:
        NotReachable, CommandFailed: see `lag.measure`.
    """
    counts: dict[str, int] = {}
    sources = {group.name: group.source.name for group in groups(kafka)}
    for each in lag.measure(kafka):
        if sources.get(each.group) == each.topic:
            counts[each.group] = counts.get(each.group, 0) + (each.records or 0)
    return counts


def skippable(kafka: KafkaSettings, group: Group, partition: int, end: int) -> SkippedRange:
    """
    Return what an order to skip up to *end* would let the sink of *group* skip.

    Raises:
        NotReachable: no broker answers.
        CommandFailed: there is no such partition, the group has no offset in it or is past *end*, or its log is not
            there yet.
    """
    found = {place.partition: place.offset for place in topics.committed(kafka, group, group.source)}
    if partition not in found:
        raise CommandFailed(f"{group.source.name} has no partition {partition}: it has {len(found)}, from 0 on")
    first = found[partition]
    if first < 0:
        raise CommandFailed(f"{group.name} has no offset in partition {partition}: run `tidegate topics create`")
    place = TopicPartition(group.source.name, partition)
    [log_end] = topics.offsets(admin_client(kafka), [place], OffsetSpec.latest()).values()
    if not first < end <= log_end:
        raise CommandFailed(f"offset {end} is not among those that wait: {first + 1} to {log_end}")
    return SkippedRange(group=group, partition=partition, first=first, end=end)


def skip(kafka: KafkaSettings, order: SkippedRange) -> None:
    """
    Order the skipping of *order*, once it stands in the topic of what was settled.

    The sink reads the order when it fails the next time.

    Raises:
        NotReachable: no broker answers.
    """
    key = f"skipped/{order.partition}/{order.first}-{order.end}".encode()
    how: headers.Headers = [
        (headers.SETTLED_AS, SKIPPED),
        (headers.SETTLED_AT, headers.timestamp(datetime.now(UTC))),
    ]
    Writer(kafka).write(order.group.settled, [(key, None, how)])
    place = TopicPartition(order.group.source.name, order.partition, order.end)
    topics.commit(kafka, skipping(order.group), [place])
