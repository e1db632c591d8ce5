"""The subscription of one socket, and its position in the log."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from processors.fanout.messages import Key, Kind, StreamRecord
from processors.fanout.outbox import Outbox
from processors.fanout.seq_ranges import SeqRanges
from schemas.kafka.places import Partition
from schemas.runs.topics import RUN_TRACES


@dataclass(eq=False, slots=True, kw_only=True)
class Subscriber:
    """
    A socket on one run or on one agent.

    It is *behind* on a partition while it catches up there: its next offset is its own. Elsewhere it is live: its
    next offset is the hub's.
    """

    key: Key
    agents: frozenset[str] | None  # the only ones whose events it may see; None: all
    covers: Sequence[Partition]
    outbox: Outbox
    resolves: bool = False  # whether it is to be sent payloads that are kept in object storage
    behind: dict[Partition, int] = field(default_factory=dict)
    _sent: SeqRanges = field(default_factory=SeqRanges)
    _finalized: bool = False

    def is_behind_on_events(self) -> bool:
        """Return True if it is catching up on events; the trace record of a run comes after them."""
        return any(partition.topic != RUN_TRACES.name for partition in self.behind)

    def is_to_be_resolved(self, record: StreamRecord) -> bool:
        """Return True if *record* refers to a payload that this subscriber asked for and that must still be fetched."""
        return self.resolves and record.reference is not None and record.kept is None

    def takes(self, record: StreamRecord) -> bool:
        """Note that *record*, which has this subscriber's key, is sent to it; False if it must not be."""
        if record.kind is Kind.TRACE_EVENT:
            # What follows the end of its run in the log is no part of it.
            if self._finalized or (self.agents is not None and record.agent_id not in self.agents):
                return False
            return self._sent.add(record.run_id, record.seq)
        if record.kind is Kind.RUN_FINALIZED:
            first, self._finalized = not self._finalized, True
            return first
        return self.agents is None  # a trace record sums up what every agent did
