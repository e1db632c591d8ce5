"""Port for reading stored runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.kafka.effect import Effect
from gateway.runs.integrity import IntegrityView
from gateway.runs.parsing.prepared import EventIdentity
from gateway.runs.sequence.memory import RunKey, RunState
from schemas.kafka.places import RecordPlace
from schemas.runs.views import EnvironmentView, EventView, RunView

PAGE_BYTES_MAX = 8 * 1024 * 1024  # of events; a page ends after the one that passes it


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """A filter of runs; None admits all."""

    agent: str | None = None
    status: str | None = None
    started_from: datetime | None = None
    started_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """A filter of a run's events; None admits all."""

    type: str | None = None
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class RunPlace:
    """The place of a run in the list: where the next page goes on."""

    started_at: datetime
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordIdentity:
    """The identity of a record at some position, as far as the log shows it; all fields are None if it has expired."""

    run_id: str | None = None
    event_sha256: bytes | None = None  # of an event
    environment: bool = False


class RunStore(Protocol):
    """
    Reads of one tenant's runs. Each call sees one consistent state.

    Every method raises StoreUnavailable when Postgres is away, slow, or not migrated: answer 503.
    """

    async def answers(self) -> bool:
        """Return True if Postgres answered within the last second, or does so now; takes at most half of one."""

    async def runs(
        self, tenant: str, admitted: RunFilter, *, after: RunPlace | None, limit: int
    ) -> tuple[Sequence[RunView], bool]:
        """Return at most *limit* runs, the newest first, and whether more follow."""

    async def run(self, tenant: str, run_id: str) -> RunView | None:
        """Return one run; None if the tenant has no such run."""

    async def events(
        self, tenant: str, run_id: str, admitted: EventFilter, *, after_seq: int, limit: int
    ) -> tuple[Sequence[EventView], bool]:
        """Return at most *limit* events by seq, fewer where they are large, and whether more follow."""

    async def environment(self, tenant: str, run_id: str) -> EnvironmentView | None:
        """Return the newest environment captured; None if there is none."""

    async def integrity(self, tenant: str, run_id: str, *, home_partition: int | None) -> IntegrityView | None:
        """
        Return what is stored of the run and what is not, or None if the tenant has no record of it.

        *home_partition* is the one that the run's key belongs in; None if that is not known.
        """

    async def trace(self, tenant: str, run_id: str) -> str | None:
        """Return the trace record's JSON text; None until the run is finalized and stored."""

    async def run_states(self, asked: Sequence[tuple[RunKey, Sequence[EventIdentity]]]) -> Mapping[RunKey, RunState]:
        """
        Return what is stored of the runs that are asked about, and under the seqs and idempotency keys of the events.
        """

    async def effect(self, tenant: str, place: RecordPlace, identity: RecordIdentity) -> Effect | None:
        """Return what the record of *identity* at *place* came to; None if the tenant has nothing of it from there."""

    async def topic_id(self, topic: str) -> str | None:
        """Return the id that Kafka had given *topic* when its first record was stored; None if none was."""
