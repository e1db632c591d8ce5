"""The hub's position in each partition, and cursors: the positions of sockets in the current topics."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from processors.fanout.messages import Key
from processors.fanout.streams.table import STREAMS
from schemas.kafka import cursors
from schemas.kafka.cursors import Cursor, CursorInvalid
from schemas.kafka.partitioner import partition_of
from schemas.kafka.places import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicEnds:
    """A topic by Kafka's id of it, and where its partitions ended."""

    id: str
    ends: Mapping[int, int]


class Places:
    """The next offset to broadcast of each partition."""

    def __init__(self, topics: Mapping[str, TopicEnds]) -> None:
        """Begin at the ends of *topics*."""
        self._topics = topics
        self._ids = {topic.id for topic in topics.values()}
        self._positions = {
            Partition(name, partition): end for name, topic in topics.items() for partition, end in topic.ends.items()
        }

    def partitions(self) -> Iterable[Partition]:
        """Return every partition."""
        return self._positions

    def position(self, partition: Partition) -> int:
        """Return the next offset of *partition* to broadcast."""
        return self._positions[partition]

    def advance(self, partition: Partition, offset: int) -> None:
        """Note that all before *offset* was broadcast; never goes back."""
        self._positions[partition] = max(self._positions[partition], offset)

    def covered(self, key: Key) -> Sequence[Partition]:
        """Return the partitions that a subscriber of *key* must cover; those of its stream's first topic come first."""
        stream, tenant, name = key
        covers: list[Partition] = []
        for topic, record_key in STREAMS[stream].record_keys(tenant, name).items():
            ends = self._topics[topic].ends
            numbers = sorted(ends) if record_key is None else [partition_of(record_key, len(ends))]
            covers += [Partition(topic, each) for each in numbers]
        return covers

    def cursor(self, covers: Iterable[Partition], behind: Mapping[Partition, int]) -> str:
        """Return where one is who covers that much, and is *behind* on some of it."""
        places: dict[str, dict[int, int]] = {}
        for partition in covers:
            offset = behind.get(partition, self._positions[partition])
            places.setdefault(self._topics[partition.topic].id, {})[partition.partition] = offset
        return cursors.encode(places)

    def behind(self, covers: Sequence[Partition], cursor: Cursor) -> dict[Partition, int] | None:
        """
        Return where one who comes with *cursor* is not where the hub is; None if it is of topics that are no more.

        Raises:
            CursorInvalid: it says nothing of some partition of the first topic that is covered.
        """
        if not self._ids.issuperset(cursor):
            return None
        places: dict[Partition, int] = {}
        for partition in covers:
            offset = cursor.get(self._topics[partition.topic].id, {}).get(partition.partition)
            if offset is None and partition.topic == covers[0].topic:
                raise CursorInvalid("it is of another stream")
            if offset is not None and offset != self._positions[partition]:
                places[partition] = offset
        return places
