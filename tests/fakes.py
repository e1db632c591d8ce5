"""Fakes of the ports: they keep what they are given, and fail on demand."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.intake.records import Outgoing
from gateway.publisher import Receipt
from gateway.queries.runs import EnvironmentView, EventFilter, EventView, RunFilter, RunPlace, RunView


@dataclass
class RecordingPublisher:
    """A log of one partition in memory."""

    ready: bool = True
    failure: Exception | None = None  # raised instead of publishing
    published: list[Outgoing] = field(default_factory=list)

    async def publish(self, record: Outgoing) -> Receipt:
        """Keep *record*."""
        if self.failure is not None:
            raise self.failure
        self.published.append(record)
        return Receipt(record.topic, 0, len(self.published) - 1)


@dataclass
class MemoryRunStore:
    """Runs of one tenant in memory; `looks` are the filters and places that were asked for."""

    tenant: str
    stored_runs: list[RunView] = field(default_factory=list)
    stored_events: dict[str, list[EventView]] = field(default_factory=dict)
    environments: dict[str, EnvironmentView] = field(default_factory=dict)
    traces: dict[str, str] = field(default_factory=dict)
    failure: Exception | None = None  # raised instead of looking
    looks: list[tuple[object, object]] = field(default_factory=list)

    @property
    def available(self) -> bool:
        """Whether a look would succeed."""
        return self.failure is None

    async def runs(
        self, tenant: str, admitted: RunFilter, *, after: RunPlace | None, limit: int
    ) -> tuple[Sequence[RunView], bool]:
        """The runs in the order they are held in."""
        self._look(admitted, after)
        mine = self.stored_runs if tenant == self.tenant else []
        names = [run.run_id for run in mine]
        start = names.index(after.run_id) + 1 if after else 0
        return mine[start : start + limit], len(mine) > start + limit

    async def run(self, tenant: str, run_id: str) -> RunView | None:
        """One run."""
        self._look(run_id, None)
        return next((run for run in self.stored_runs if run.run_id == run_id and tenant == self.tenant), None)

    async def events(
        self, tenant: str, run_id: str, admitted: EventFilter, *, after_seq: int, limit: int
    ) -> tuple[Sequence[EventView], bool]:
        """The run's events after *after_seq*."""
        self._look(admitted, after_seq)
        mine = self.stored_events.get(run_id, []) if tenant == self.tenant else []
        rest = [event for event in mine if event.seq > after_seq]
        return rest[:limit], len(rest) > limit

    async def environment(self, tenant: str, run_id: str) -> EnvironmentView | None:
        """The run's environment."""
        self._look(run_id, None)
        return self.environments.get(run_id) if tenant == self.tenant else None

    async def trace(self, tenant: str, run_id: str) -> str | None:
        """The run's trace record."""
        self._look(run_id, None)
        return self.traces.get(run_id) if tenant == self.tenant else None

    def _look(self, what: object, after: object) -> None:
        if self.failure is not None:
            raise self.failure
        self.looks.append((what, after))
