"""
The API of task functions: what one is given beside its parameters, and what it may return or meet.

    def resize(context: TaskContext, parameters: Resize) -> dict[str, object]:
        context.progress(0.5, "half way")
        return {"width": parameters.width}

A function may return a JSON value, or one of `Completed`, `Retry`, `Snooze` and `Fail`. It is stopped by an exception
that `except Exception` does not catch: `SoftLimitReached`, `TaskCancelled` or `TaskInterrupted`; an `async` function is
cancelled instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal
from uuid import UUID

import psycopg

HOLDS = "SELECT FROM job_running WHERE job_id = %s AND attempt_id = %s FOR UPDATE"
STATEMENT_MARGIN_S = 1.0
# A statement of a process that was killed ends when Postgres next looks whether its client is there.
CHECK_CLIENT = "-c client_connection_check_interval=1s"


class Interruption(BaseException):
    """The end of a task from outside; `except Exception` does not catch it."""


class SoftLimitReached(Interruption):
    """The task has run for as long as its type allows. Return what there is, or let it end the task."""


class TaskCancelled(Interruption):
    """A user cancelled the job. Clean up and let it end the task: its process is killed 10 s later."""


class TaskInterrupted(Interruption):
    """The executor stops. The job runs again elsewhere, from the start: let it end the task."""


class StaleAttempt(Exception):
    """The job is no longer this attempt's: another one may run. Nothing was committed; end the task."""


class BadInput(Exception):
    """The task can never succeed as it was submitted: its input is wrong. Not tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A result, and the summary of it that is kept when the result is dropped."""

    result: Any
    summary: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A failed attempt; the next one begins after *after_s* seconds, if attempts are left."""

    after_s: float
    why: str = "the task asked to be tried again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snooze:
    """No failure: run the job again after *after_s* seconds. 500 times at most."""

    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """The end of the job: a failure that no further attempt mends."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """The job and the attempt that a function runs for, and what it may do meanwhile."""

    job_id: str
    attempt_id: str
    attempt: int  # from 1, over all runs of the job
    failed_attempts: int
    type: str
    tenant: str
    user_id: str | None
    folder: Path
    deadline_s: float  # by `time.monotonic`, of the soft limit
    dsn: str
    report: Callable[[float | None, str | None], None]
    check: Callable[[], None]

    def progress(self, fraction: float | None, message: str | None = None) -> None:
        """Report how far the task is, 0 to 1 or None, and what it does; shown at most four times a second."""
        self.report(fraction, message)

    def checkpoint(self) -> None:
        """Raise what is to stop the task, if anything is: for code that catches what was raised before."""
        self.check()

    def remaining_s(self) -> float:
        """Return the seconds until the soft limit; negative behind it."""
        return self.deadline_s - monotonic()

    def temporary_folder(self) -> Path:
        """Return a folder of this attempt, which is removed after it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.folder

    def connect(self, **options: Any) -> "psycopg.Connection[tuple[Any, ...]]":
        """Return a connection to Postgres; its statements end with the task's time, and with its process."""
        return psycopg.connect(self.dsn, **self._connection_options(), **options)

    async def connect_async(self, **options: Any) -> "psycopg.AsyncConnection[tuple[Any, ...]]":
        """Return what `connect` does, for an `async` function."""
        return await psycopg.AsyncConnection.connect(self.dsn, **self._connection_options(), **options)

    def commit(self, connection: "psycopg.Connection[Any]") -> None:
        """
        Commit the transaction of *connection* if the job is still this attempt's: so its effect comes about once.

        Raises:
            StaleAttempt: it is not; the transaction is rolled back.
        """
        if connection.execute(HOLDS, self._ids()).fetchone() is None:
            connection.rollback()
            raise StaleAttempt
        connection.commit()

    async def commit_async(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        """Do what `commit` does, for an `async` function."""
        if await (await connection.execute(HOLDS, self._ids())).fetchone() is None:
            await connection.rollback()
            raise StaleAttempt
        await connection.commit()

    def _ids(self) -> tuple[UUID, UUID]:
        return UUID(self.job_id), UUID(self.attempt_id)

    def _connection_options(self) -> dict[str, Any]:
        timeout_ms = max(1, int((self.remaining_s() + STATEMENT_MARGIN_S) * 1000))
        return {
            "application_name": application_name(self.attempt_id),
            "options": f"-c statement_timeout={timeout_ms} {CHECK_CLIENT}",
            "connect_timeout": 10,
        }


Ending = Literal["completed", "failed", "snoozed", "soft_limit", "cancelled", "interrupted"]


def application_name(attempt_id: str) -> str:
    """Return the name under which Postgres shows the sessions of an attempt."""
    return f"tidegate-job/{attempt_id}"
