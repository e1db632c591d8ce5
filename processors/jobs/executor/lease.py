"""
The lease of an executor: one row that it renews, whatever it runs.

Others take its jobs back once the lease has ended, so it must know before they do: an executor that cannot confirm a
renewal for two thirds of the lease kills its children (`fence_s`). Time is that of a clock which goes on while the
machine sleeps.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from processors.postgres.writes import PostgresWrites

# A row that is gone is made again: what it held meanwhile is no longer among its attempts.
RENEW = """
    INSERT INTO executors (executor_id, host, pid, version, queues, types, slots, busy, is_draining)
    VALUES (%(executor_id)s, %(host)s, %(pid)s, %(version)s, %(queues)s, %(types)s, %(slots)s, %(busy)s,
        %(is_draining)s)
    ON CONFLICT (executor_id) DO UPDATE
    SET beat_at = clock_timestamp(), busy = excluded.busy, is_draining = excluded.is_draining
"""
HELD = "SELECT attempt_id, cancelled_by IS NOT NULL FROM job_running WHERE executor_id = %(executor_id)s"
LEAVE = "DELETE FROM executors WHERE executor_id = %(executor_id)s"


def boot_s() -> float:
    """Return the seconds since the machine started, those that it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Held(NamedTuple):
    """An attempt that is this executor's."""

    attempt_id: UUID
    is_cancelled: bool


class Lease:
    """The lease of this process."""

    def __init__(self, writes: PostgresWrites, *, fence_s: float, **row: Any) -> None:
        """Renew by the connections of *writes* the row that the columns *row* describe."""
        self._writes = writes
        self._fence_s = fence_s
        self._row = row
        self._confirmed_s = boot_s()

    @property
    def executor_id(self) -> UUID:
        """Return the id of this start of the process."""
        found: UUID = self._row["executor_id"]
        return found

    @property
    def is_doubtful(self) -> bool:
        """Return True if others may soon believe that this executor is gone."""
        return boot_s() - self._confirmed_s >= self._fence_s

    async def renew(self, *, busy: int, is_draining: bool) -> Sequence[Held]:
        """
        Renew the lease; return the attempts that are this executor's.

        Raises:
            Transient: not confirmed.
        """
        asked_s = boot_s()
        asked = {**self._row, "busy": busy, "is_draining": is_draining}
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await cursor.execute("SET LOCAL synchronous_commit = off")
            await cursor.execute(RENEW, asked)
            await cursor.execute(HELD, asked)
            held = [Held(*row) for row in await cursor.fetchall()]
        self._confirmed_s = asked_s
        return held

    async def leave(self) -> None:
        """Remove the row: nothing is held any more. Raises Transient."""
        async with self._writes.transaction() as (connection, _):
            await connection.execute(LEAVE, self._row)
