"""
The rules of deletion. Pure: facts in, a verdict out; every deletion is judged here and nowhere else.

Nothing is deleted whose position in the log some consumer group has not committed past: a redelivery would store it
again, and a group that is behind would not find what it must send. A run is deleted whole or not at all.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from processors.runs.retention.policy import Retention
from schemas.objects.references import owner_of

YOUNGEST_OBJECT = timedelta(hours=24)  # its record may be on its way
NOTHING_PASSED = 0

RunKey = tuple[str, str]  # tenant, run_id


class Hold(StrEnum):
    """The reason to keep something that is old enough to be judged."""

    YOUNG = "young"  # it was updated or stored since
    UNPASSED = "unpassed"  # a group has not committed past its place in the log
    REFERRED = "referred"  # something that is kept refers to it
    FOREIGN = "foreign"  # no object of ours, or its tenant keeps it


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedFloors:
    """The progress of all groups: by partition, the first offset that some group has not passed."""

    floors: Mapping[int, int]

    def holds(self, partition: int, offset: int) -> bool:
        """
        Return True if some group has yet to pass that place; of a partition that is not known, every place.

        A negative partition is a place that the log has lost: no group will come to it.
        """
        return partition >= 0 and offset >= self.floors.get(partition, NOTHING_PASSED)


@dataclass(slots=True, kw_only=True)
class RunFacts:
    """A stored run that may be old enough."""

    tenant: str
    run_id: str
    updated_at: datetime
    has_trace: bool
    event_count: int = 0
    size_bytes: int = 0
    last_stored_at: datetime | None = None  # of its events and their duplicates
    last_offsets: dict[int, int] = field(default_factory=dict)  # by partition: the last place of either

    @property
    def key(self) -> RunKey:
        """Return its name."""
        return self.tenant, self.run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedFacts:
    """A record that broke a rule."""

    tenant: str
    partition: int
    offset: int
    stored_at: datetime
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object as a listing tells it."""

    key: str
    size_bytes: int
    modified_at: datetime


def judge_run(run: RunFacts, retention: Retention, passed: CommittedFloors, *, now: datetime) -> Hold | None:
    """Return the reason to keep the events of *run*; None if all of them may be deleted."""
    cutoff = retention.events_cutoff(run.tenant, now=now)
    stored_at = run.last_stored_at or run.updated_at
    # Also by when they were stored: a direct producer says what it likes, and what a replay brought back was wanted.
    if cutoff is None or max(run.updated_at, stored_at) >= cutoff:
        return Hold.YOUNG
    if any(passed.holds(partition, offset) for partition, offset in run.last_offsets.items()):
        return Hold.UNPASSED
    return None


def judge_rejected(
    record: RejectedFacts, retention: Retention, passed: CommittedFloors, *, now: datetime
) -> Hold | None:
    """Return the reason to keep a rejected *record*; None if it may be deleted."""
    cutoff = retention.rejected_cutoff(record.tenant, now=now)
    if cutoff is None or record.stored_at >= cutoff:
        return Hold.YOUNG
    return Hold.UNPASSED if passed.holds(record.partition, record.offset) else None


def judge_object(found: StoredObject, retention: Retention, *, now: datetime) -> Hold | None:
    """
    Return the reason to keep an object, whatever refers to it; None if it is deleted unless something refers to it.
    """
    owner = owner_of(found.key)
    if owner is None or not retention.collects_objects(owner[0]):
        return Hold.FOREIGN
    return Hold.YOUNG if now - found.modified_at < YOUNGEST_OBJECT else None


def is_referred(
    key: str, *, runs: Collection[RunKey], rejected: Collection[RejectedFacts], letters: Collection[str]
) -> bool:
    """Return True if something that is kept refers to the object *key*: stored events, rejected records, or letters."""
    return bool(runs or rejected) or key in letters


def has_passed(passed: CommittedFloors, ends: Mapping[int, int]) -> bool:
    """Return True if every group is past *ends*: then no record from before they were read waits for one."""
    return all(not passed.holds(partition, end - 1) for partition, end in ends.items() if end)
