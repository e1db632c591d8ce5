"""The subscription of one socket, and its position in the log."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from processors.fanout.messages import Key, StreamRecord
from processors.fanout.outbox import Outbox
from processors.fanout.streams.contract import Selection
from processors.fanout.streams.table import STREAMS
from schemas.kafka.places import Partition
from schemas.kafka.topics import Topic


@dataclass(eq=False, slots=True, kw_only=True)
class Subscriber:
    """
    A socket on one stream.

    It is *behind* on a partition while it catches up there: its next offset is its own. Elsewhere it is live: its
    next offset is the hub's.
    """

    key: Key
    agents: frozenset[str] | None  # the only ones whose events it may see; None: all
    covers: Sequence[Partition]
    outbox: Outbox
    resolves: bool = False  # whether it is to be sent payloads that are kept in object storage
    behind: dict[Partition, int] = field(default_factory=dict)
    _selection: Selection = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing sent."""
        self._selection = STREAMS[self.key[0]].select(self.agents)

    def is_behind_on(self, topic: Topic) -> bool:
        """Return True if it is catching up on *topic*."""
        return any(partition.topic == topic.name for partition in self.behind)

    def is_to_be_resolved(self, record: StreamRecord) -> bool:
        """Return True if *record* refers to a payload that this subscriber asked for and that must still be fetched."""
        return self.resolves and record.reference is not None and record.kept is None

    def takes(self, record: StreamRecord) -> bool:
        """Note that *record*, which has this subscriber's key, is sent to it; False if it must not be."""
        return self._selection.takes(record)
