"""Counts of events in a tenant for its dashboard; nothing is counted while nobody watches."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from processors.fanout.messages import StreamRecord
from processors.fanout.streams.runs import RunStreamRecord
from schemas.runs.pushed import FinalizedDocument, finalized_document
from schemas.runs.records import RunEvent, RunFinalized
from schemas.runs.topics import RUN_EVENTS

FINALIZED_MAX = 100  # shown of one second; the count is exact
TYPES_MAX = 1000  # counted apart in one second; the rest together
OTHER = "other"


@dataclass(slots=True)
class StreamCounts:
    """The counts of one tenant since they were last collected."""

    types: Counter[str] = field(default_factory=Counter)
    finalized_count: int = 0
    finalized: list[FinalizedDocument] = field(default_factory=list)


class Tallies:
    """The tallies of the tenants that are watched."""

    def __init__(self) -> None:
        """Watch none."""
        self._watchers: Counter[str] = Counter()
        self._tallies: dict[str, StreamCounts] = {}

    @property
    def active(self) -> bool:
        """Return True if anybody watches."""
        return bool(self._tallies)

    def counts(self, topic: str) -> bool:
        """Return True if all records of *topic* must be noted now."""
        return self.active and topic == RUN_EVENTS.name

    def watch(self, tenant: str) -> None:
        """Count for one more who looks at *tenant*."""
        self._watchers[tenant] += 1
        self._tallies.setdefault(tenant, StreamCounts())

    def unwatch(self, tenant: str) -> None:
        """Count for one less."""
        self._watchers[tenant] -= 1
        if not self._watchers[tenant]:
            del self._watchers[tenant], self._tallies[tenant]

    def note(self, streamed: StreamRecord) -> None:
        """Count a record that is sent."""
        if not isinstance(streamed, RunStreamRecord):
            return
        record = streamed.value
        tally = self._tallies.get(record.tenant)
        if tally is None:
            return
        if isinstance(record, RunEvent):
            known = record.type in tally.types or len(tally.types) < TYPES_MAX
            tally.types[record.type if known else OTHER] += 1
        elif isinstance(record, RunFinalized):
            tally.finalized_count += 1
            if len(tally.finalized) < FINALIZED_MAX:
                tally.finalized.append(finalized_document(record))

    def collect(self) -> Mapping[str, StreamCounts]:
        """Return what was counted since the last time, by tenant."""
        taken = self._tallies
        self._tallies = {tenant: StreamCounts() for tenant in self._watchers}
        return taken
