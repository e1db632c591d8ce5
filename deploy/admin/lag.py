"""The lag of each group: in records, and in seconds since the first record that it has not processed."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic, time

from confluent_kafka import TopicPartition

from deploy.admin import positions, topics
from deploy.admin.positions import GroupPosition
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.places import Partition
from schemas.kafka.positions import PositionFault
from schemas.kafka.topics import Group

TIMEOUT_S = 10.0
POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLag:
    """One group's lag on one partition."""

    group: str
    topic: str
    partition: int
    committed: int | None  # None: nothing, the group cannot start
    end: int  # the last stable offset: what the group can see ends here
    high_watermark: int
    records: int | None  # None where nothing is committed
    undecided: int  # from `end` to `high_watermark`: behind the beginning of an open transaction
    expired: int  # of `records`, how many are gone from the log: the group stops until its offset is reset
    seconds: float | None  # None while the first unprocessed record could not be read
    fault: PositionFault | None  # why the position has outlived the log, so that the group stops


def measure(kafka: KafkaSettings) -> list[PartitionLag]:
    """
    Return the lag of every group on every partition that it consumes.

    Raises:
        NotReachable: no broker answers.
        CommandFailed: a group's topic does not exist.
    """
    found = positions.examine(kafka)
    waiting_since_s = _waiting_since_s(kafka, found)
    now_s = time()
    return [_lag(each, waiting_since_s.get((each.group.id, each.place)), now_s) for each in found]


def _waiting_since_s(kafka: KafkaSettings, found: list[GroupPosition]) -> Mapping[tuple[str, Partition], float]:
    behind: defaultdict[tuple[Group, str], list[TopicPartition]] = defaultdict(list)
    for each in found:
        if each.position.offset is not None and each.position.offset < each.log.stable_end:
            topic, partition = each.place
            behind[each.group, topic].append(TopicPartition(topic, partition, each.position.offset))
    return {
        (group.id, Partition(topic, partition)): moment_s
        for (group, topic), places in behind.items()
        for partition, moment_s in first_timestamps_s(kafka, group, places).items()
    }


def _lag(each: GroupPosition, since_s: float | None, now_s: float) -> PartitionLag:
    committed, log = each.position.offset, each.log
    records = None if committed is None else max(0, log.stable_end - committed)
    if since_s is None and records == 0:
        since_s = now_s
    return PartitionLag(
        group=each.group.name,
        topic=each.place[0],
        partition=each.place[1],
        committed=committed,
        end=log.stable_end,
        high_watermark=log.end,
        records=records,
        undecided=max(0, log.end - log.stable_end),
        expired=0 if committed is None else max(0, log.first - committed),
        seconds=None if since_s is None else max(0.0, now_s - since_s),
        fault=each.fault,
    )


def first_timestamps_s(kafka: KafkaSettings, group: Group, places: list[TopicPartition]) -> Mapping[int, float]:
    """Return when the first record at or after each of *places*, all of one topic, was written; by partition."""
    found: dict[int, float] = {}
    deadline_s = monotonic() + TIMEOUT_S
    with topics.group_consumer(kafka, group) as consumer:
        consumer.assign(places)
        while len(found) < len(places) and monotonic() < deadline_s:
            message = consumer.poll(POLL_S)
            if message is None or message.error():
                continue
            topic, partition = message.topic(), message.partition()
            assert topic is not None, "no error, so it is a record"
            assert partition is not None, "no error, so it is a record"
            _, timestamp_ms = message.timestamp()
            found.setdefault(partition, timestamp_ms / 1000)
            consumer.pause([TopicPartition(topic, partition)])
    return found
