"""How far each group is behind: in records, and in seconds since the first record that it has not processed."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic, time

from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from deploy.admin import topics
from deploy.admin.reach import admin_client
from schemas.topics import Group, subscriptions

TIMEOUT_S = 10.0
POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLag:
    """One group's lag on one partition."""

    group: str
    topic: str
    partition: int
    committed: int | None  # None: nothing, the group cannot start
    end: int
    records: int | None  # None where nothing is committed
    expired: int  # of these, how many are gone from the log: the group stops until its offset is reset
    seconds: float | None  # None while the first unprocessed record could not be read


def measure(bootstrap: str) -> list[PartitionLag]:
    """
    The lag of every group on every partition that it consumes.

    Raises:
        NotReachable: no broker answers.
        Failed: a group's topic does not exist.
    """
    admin = admin_client(bootstrap)
    found = []
    for group, topic in subscriptions(topics.groups_of(bootstrap)):
        places = topics.committed(bootstrap, group, topic)
        starts = topics.offsets(admin, places, OffsetSpec.earliest())
        ends = topics.offsets(admin, places, OffsetSpec.latest())
        behind = [place for place in places if 0 <= place.offset < ends[place.partition]]
        waiting_since_s = first_timestamps_s(bootstrap, group, behind) if behind else {}
        now_s = time()
        for place in places:
            committed = place.offset if place.offset >= 0 else None
            records = None if committed is None else max(0, ends[place.partition] - committed)
            since_s = waiting_since_s.get(place.partition, now_s if records == 0 else None)
            found.append(
                PartitionLag(
                    group=group.id,
                    topic=place.topic,
                    partition=place.partition,
                    committed=committed,
                    end=ends[place.partition],
                    records=records,
                    expired=0 if committed is None else max(0, starts[place.partition] - committed),
                    seconds=None if since_s is None else max(0.0, now_s - since_s),
                )
            )
    return found


def first_timestamps_s(bootstrap: str, group: Group, places: list[TopicPartition]) -> Mapping[int, float]:
    """When the first record at or after each of *places*, all of one topic, was written; by partition."""
    found: dict[int, float] = {}
    deadline_s = monotonic() + TIMEOUT_S
    with topics.speaker(bootstrap, group) as consumer:
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
