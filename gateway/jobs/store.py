"""Port for reading stored jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Protocol

from gateway.jobs.views import (
    ExecutorView,
    JobLogView,
    JobSummary,
    JobView,
    OperationView,
    QueueView,
    ScheduleView,
)
from gateway.kafka.effect import Effect
from schemas.jobs.filters import JobFilter
from schemas.jobs.states import JobStatus
from schemas.kafka.places import RecordPlace

COUNTED_MAX = 10_000  # of a total that is shown
LOOKED_AT_MAX = 10_000  # jobs that one page, or one total, looks through for those that a filter admits
POSITION_MAX = 1_000
ATTEMPTS_SHOWN_MAX = 100
LOG_TAIL_CHARACTERS = 8 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class JobBrief:
    """The part of a job that decides what may be done to it."""

    job_id: str
    type: str
    queue: str
    status: JobStatus
    priority: int
    duplicate_of: str | None
    content_sha256: bytes
    created_at: datetime


class JobListing(Enum):
    """A list of jobs and its order."""

    NEWEST = auto()  # all, by creation, the newest first
    PENDING = auto()  # by rank: the next to run first, behind them those that wait for their time
    FAILED = auto()  # the newest failure first


@dataclass(frozen=True, slots=True)
class JobPlace:
    """The place of a job in a list: where the next page goes on."""

    moment: datetime  # of creation, rank or failure
    job_id: str


@dataclass(frozen=True, slots=True)
class Total:
    """A number of jobs that was counted up to a bound."""

    count: int
    is_estimate: bool  # there may be more


class JobStore(Protocol):
    """
    Reads of jobs; those of one tenant take its name.

    Every read is bounded, however many jobs there are. Every method raises StoreUnavailable when Postgres is away,
    slow, or not migrated: answer 503.
    """

    async def job(self, tenant: str, job_id: str) -> JobView | None:
        """Return a job; None if the tenant has none of that id."""

    async def brief(self, tenant: str, job_id: str) -> JobBrief | None:
        """Return the same in brief."""

    async def holders(self, tenant: str, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], JobBrief]:
        """Return the unfinished jobs that hold dedupe keys, by type and key: at most one a key."""

    async def log(self, tenant: str, job_id: str, number: int | None) -> JobLogView | None:
        """Return the output of an attempt, None: the newest that ended; None if there is no such attempt."""

    async def jobs(
        self, tenant: str, listing: JobListing, admitted: JobFilter, *, after: JobPlace | None, skip: int, limit: int
    ) -> tuple[Sequence[JobSummary], JobPlace | None]:
        """
        Return at most *limit* jobs behind the first *skip*, fewer where `LOOKED_AT_MAX` jobs hold no more of them.

        Beside them stands the place from which the next page goes on; None if no more follow. Only the newest first
        are filtered by more than their queue.
        """

    async def count(
        self, tenant: str, listing: JobListing, admitted: JobFilter, *, looked_at_max: int = LOOKED_AT_MAX
    ) -> Total:
        """Return how many of the first *looked_at_max* jobs a filter admits."""

    async def unfinished(self, tenant: str, *, count_max: int) -> int:
        """Return how many jobs of a tenant are not finished, up to *count_max*."""

    async def queues(self, tenant: str | None) -> Sequence[QueueView]:
        """Return the queues, with the counts of a tenant's jobs; None: of all tenants'."""

    async def queue_names(self) -> frozenset[str]:
        """Return the names of the queues."""

    async def executors(self) -> Sequence[ExecutorView]:
        """Return the executors that reported recently."""

    async def oldest_snapshot_s(self) -> float | None:
        """Return the age of the oldest transaction with a snapshot; None if the role may not see those of others."""

    async def schedules(self, tenant: str, *, after: str | None, limit: int) -> tuple[Sequence[ScheduleView], bool]:
        """Return at most *limit* schedules by name, behind the one named *after*; and True if more follow."""

    async def schedule(self, tenant: str, schedule_id: str) -> ScheduleView | None:
        """Return a schedule; None if the tenant has none of that id."""

    async def operations(
        self, tenant: str, *, after: JobPlace | None, limit: int
    ) -> tuple[Sequence[OperationView], bool]:
        """Return at most *limit* operations, the newest first, behind the one at *after*; and True if more follow."""

    async def operation(self, tenant: str, operation_id: str) -> OperationView | None:
        """Return an operation; None if the tenant has none of that id."""

    async def effect(self, tenant: str, place: RecordPlace, command_id: str | None) -> Effect | None:
        """Return what the command at *place* came to; None if the tenant has nothing of it from there."""
