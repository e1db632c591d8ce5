"""
The plan of a replay: which offsets it takes, whether the log still has them, and where its group begins.

Why refuse when part of the range has expired: a replay that silently does less than it was asked for is believed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from secrets import token_hex

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import OffsetSpec

from deploy.admin import topics
from deploy.admin.lag import first_timestamps_s
from deploy.errors import CommandFailed
from deploy.log.reading import Edge, Start
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.lookups import admin_client
from schemas.kafka.replays import Replay
from schemas.kafka.topics import Group

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A range of one partition, and what the partition holds."""

    partition: int
    start: int
    end: int
    first: int  # the oldest offset there is

    @property
    def count(self) -> int:
        """Return how many offsets; transactions' markers and compacted records are counted too."""
        return max(0, self.end - self.start)


def spans(kafka: KafkaSettings, group: Group, start: Start, end: Start) -> list[Span]:
    """
    Return the range from *start* to *end* in each partition of the group's source.

    Raises:
        NotReachable: no broker answers.
        CommandFailed: part of it has expired from the log; says which.
    """
    admin, places = admin_client(kafka), topics.partitions_of(kafka, group.source)
    first = topics.offsets(admin, places, OffsetSpec.earliest())
    last = topics.offsets(admin, places, OffsetSpec.latest())
    with topics.group_consumer(kafka, group) as consumer:
        starts = _offsets(consumer, places, start, first=first, last=last)
        ends = _offsets(consumer, places, end, first=first, last=last)
    if start is not Edge.BEGINNING:
        _refuse_expired(kafka, group, start, starts, first)
    return [
        Span(
            partition=place.partition,
            start=min(max(starts[place.partition], first[place.partition]), last[place.partition]),
            end=min(max(ends[place.partition], first[place.partition]), last[place.partition]),
            first=first[place.partition],
        )
        for place in places
    ]


def plan(kafka: KafkaSettings, group: Group, found: list[Span], *, run_id: str | None, overwrite: bool) -> Replay:
    """Fix the range *found* as a replay, and let its group begin there."""
    replay = Replay(
        id=f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{token_hex(2)}",
        group=group.name,
        starts={span.partition: span.start for span in found},
        ends={span.partition: max(span.start, span.end) for span in found},
        run_id=run_id,
        overwrite=overwrite,
    )
    begin = [TopicPartition(group.source.name, partition, offset) for partition, offset in replay.starts.items()]
    topics.commit(kafka, group.replaying(replay.id), begin)
    return replay


def remaining(kafka: KafkaSettings, group: Group, replay: Replay) -> int:
    """Return the lag of *replay*, which repeats part of the source of *group*: how many offsets it has not passed."""
    return sum(
        max(0, replay.ends[place.partition] - place.offset)
        for place in topics.committed(kafka, group.replaying(replay.id), group.source)
    )


def _offsets(
    consumer: Consumer, places: list[TopicPartition], at: Start, *, first: Mapping[int, int], last: Mapping[int, int]
) -> Mapping[int, int]:
    """Return the offset that *at* means in each partition; of a time, the first record written then or later."""
    match at:
        case Edge.BEGINNING:
            return first
        case Edge.END:
            return last
        case int():
            return {place.partition: at for place in places}
        case datetime():
            moment_ms = int(at.timestamp() * 1000)
            asked = [TopicPartition(place.topic, place.partition, moment_ms) for place in places]
            found = topics.settle(partial(consumer.offsets_for_times, asked, timeout=TIMEOUT_S))
            # Negative: nothing is that young.
            return {each.partition: each.offset if each.offset >= 0 else last[each.partition] for each in found}


def _refuse_expired(
    kafka: KafkaSettings, group: Group, start: Start, starts: Mapping[int, int], first: Mapping[int, int]
) -> None:
    cut = [partition for partition, offset in starts.items() if first[partition] and offset <= first[partition]]
    if isinstance(start, int):
        cut = [partition for partition in cut if starts[partition] < first[partition]]
    elif cut and isinstance(start, datetime):
        places = [TopicPartition(group.source.name, partition, first[partition]) for partition in cut]
        written_s = first_timestamps_s(kafka, group, places)
        cut = [each for each in cut if written_s.get(each, start.timestamp() + 1) > start.timestamp()]
    if cut:
        held = ", ".join(f"{partition} from {first[partition]} on" for partition in sorted(cut))
        raise CommandFailed(
            f"part of the range has expired: {group.source.name} holds partition {held}; "
            "--from-start takes what is there"
        )
