"""The health of background jobs in Postgres: executors, queues without any, and what pins dead rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import LiteralString, TypeVar

import psycopg
from psycopg.rows import class_row

from deploy.errors import CommandFailed, NotReachable
from schemas.jobs.waiting import HEADS, LEASE_S

Row = TypeVar("Row")

STUCK_S = 90.0  # by then others have taken its jobs back
SHOWN_S = 600.0  # executors that ended longer ago are of no interest
SNAPSHOT_S_MAX = 300.0
UNSERVED_S_MAX = 30.0
TIMEOUT_S = 5
COUNTED_MAX = 10_000

EXECUTORS: LiteralString = """
    SELECT executor_id::text AS id, host, pid, slots, busy, queues, is_draining,
        extract(epoch FROM clock_timestamp() - beat_at)::float8 AS silent_s,
        (SELECT count(*) FROM job_running WHERE job_running.executor_id = executors.executor_id) AS held
    FROM executors
    WHERE beat_at > clock_timestamp() - make_interval(secs => %(shown)s)
        OR EXISTS (SELECT FROM job_running WHERE job_running.executor_id = executors.executor_id)
    ORDER BY host, started_at
"""
# Paused queues wait on purpose. The oldest is the one that goes first of some tenant: the first of each is looked at.
UNSERVED: LiteralString = f"""
    {HEADS}
    SELECT queue, extract(epoch FROM clock_timestamp() - min(ready_at))::float8 AS oldest_s,
        (SELECT count(*) FROM (SELECT FROM job_ready WHERE job_ready.queue = heads.queue AND lost = 0
            LIMIT %(counted)s) AS ready)
            + (SELECT count(*) FROM job_ready WHERE job_ready.queue = heads.queue AND lost > 0) AS ready
    FROM heads
    WHERE NOT EXISTS (SELECT FROM job_queues WHERE job_queues.queue = heads.queue AND paused_at IS NOT NULL)
        AND NOT EXISTS (
            SELECT FROM executors
            WHERE heads.queue = ANY(queues) AND NOT is_draining
                AND beat_at > clock_timestamp() - make_interval(secs => %(lease)s))
    GROUP BY queue ORDER BY queue
"""  # noqa: S608  the parts are literals
OLDEST_SNAPSHOT: LiteralString = """
    SELECT pid, coalesce(usename::text, '?') AS role, coalesce(application_name, '') AS application,
        extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age_s
    FROM pg_stat_activity
    WHERE backend_xmin IS NOT NULL AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
        AND backend_type = 'client backend'
    ORDER BY xact_start LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorState:
    """One executor that reported lately, or holds jobs."""

    id: str
    host: str
    pid: int
    slots: int
    busy: int
    queues: Sequence[str]
    is_draining: bool
    silent_s: float
    held: int

    @property
    def is_live(self) -> bool:
        """Return True if its lease holds."""
        return self.silent_s < LEASE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class UnservedQueue:
    """A queue with jobs that could run, and no executor."""

    queue: str
    oldest_s: float
    ready: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The oldest transaction that keeps VACUUM from dead rows."""

    pid: int
    role: str
    application: str
    age_s: float


def executors(postgres: str) -> list[ExecutorState]:
    """
    Return the executors that reported within `SHOWN_S`, and those that hold jobs.

    Raises:
        NotReachable: Postgres does not answer.
        CommandFailed: it cannot be asked; says why.
    """
    return _rows(postgres, EXECUTORS, ExecutorState)


def unserved_queues(postgres: str) -> list[UnservedQueue]:
    """Return the queues with ready jobs that no live executor serves, unless they are paused. Raises as `executors`."""
    return _rows(postgres, UNSERVED, UnservedQueue)


def oldest_snapshot(postgres: str) -> Snapshot | None:
    """Return the oldest snapshot; None where no session has one. Raises as `executors`."""
    return next(iter(_rows(postgres, OLDEST_SNAPSHOT, Snapshot)), None)


def _rows(postgres: str, query: LiteralString, kind: type[Row]) -> list[Row]:
    asked = {"shown": SHOWN_S, "lease": LEASE_S, "counted": COUNTED_MAX}
    try:
        with (
            psycopg.connect(postgres, connect_timeout=TIMEOUT_S) as session,
            session.cursor(row_factory=class_row(kind)) as cursor,
        ):
            return cursor.execute(query, asked).fetchall()
    except psycopg.errors.UndefinedTable as error:
        raise CommandFailed("the tables of jobs are missing; run `tidegate migrate`") from error
    except psycopg.OperationalError as error:
        raise NotReachable(f"Postgres does not answer: {error}") from error


def queues_text(found: Sequence[UnservedQueue]) -> str:
    """Return which queues wait for an executor that may yet come, in words."""
    waits = [f"{each.queue} has waited {each.oldest_s:.0f} s for an executor" for each in found]
    return "; ".join(waits) or "no ready job lacks an executor"


def snapshot_text(found: Snapshot | None) -> str:
    """Return what the oldest snapshot is, in words."""
    if found is None:
        return "none"
    return f"{found.age_s:.0f} s: pid {found.pid}, {found.role}, {found.application or 'without a name'}"


def of_executors(found: Sequence[ExecutorState]) -> Iterator[str]:
    """Yield the problems of executors: jobs that one holds which does not report any more."""
    for each in found:
        if each.held and each.silent_s > STUCK_S:
            yield (
                f"executor {each.host}/{each.pid} is silent for {each.silent_s:.0f} s and holds {each.held} jobs: "
                "another executor takes them back: start one"
            )


def of_queues(found: Sequence[UnservedQueue]) -> Iterator[str]:
    """Yield the problems of queues that no executor serves."""
    for each in found:
        if each.oldest_s > UNSERVED_S_MAX:
            count = f"{each.ready} or more" if each.ready == COUNTED_MAX else str(each.ready)
            yield (
                f"queue {each.queue} has {count} ready jobs, the oldest for {each.oldest_s:.0f} s, and no executor: "
                f"start `python -m processors executor --queue {each.queue}`"
            )


def of_snapshot(found: Snapshot | None) -> Iterator[str]:
    """Yield the problem of a snapshot that is too old."""
    if found is not None and found.age_s > SNAPSHOT_S_MAX:
        of = f" ({found.application})" if found.application else ""
        yield (
            f"a transaction of {found.role}{of} is open for {found.age_s:.0f} s, and keeps VACUUM from the tables of "
            f"jobs: end it with SELECT pg_terminate_backend({found.pid})"
        )


def summary(found: Sequence[ExecutorState]) -> str:
    """Return who is there, in words."""
    live = [each for each in found if each.is_live]
    words = [f"{len(live)} live with {sum(each.slots for each in live)} slots, {sum(each.busy for each in live)} busy"]
    words += [f"{each.host}/{each.pid} silent for {each.silent_s:.0f} s" for each in found if not each.is_live]
    return "; ".join(words)
