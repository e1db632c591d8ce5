"""
The removal of jobs that ended long ago, and of the outcomes of commands that the log no longer has.

A job stays as long as it is the one of a document's live version, or of its newest one: they hold what a document was
made of. The rows of deleted documents stay for ever; they have no text.
"""

from collections.abc import Callable
from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncCursor

from processors.postgres.writes import PostgresWrites

ROWS_AT_ONCE = 1000
EVERY_S = 3600.0  # a pass looks at every job that is old, those that stay as well

NEXT_TENANT = "SELECT min(tenant_id) FROM document_totals WHERE tenant_id > %s"
# By an index of what has ended, from where the last part came to. Whoever has locked a job is about to run it again.
PRUNE_JOBS = """
    WITH old AS MATERIALIZED (
        SELECT job_id, ended_at FROM document_jobs
        WHERE tenant_id = %(tenant)s AND ended_at < clock_timestamp() - make_interval(days => %(days)s)
            AND (ended_at, job_id) > (%(ended_at)s::timestamptz, %(job_id)s::uuid)
        ORDER BY ended_at, job_id LIMIT %(limit)s
    ),
    needless AS (
        SELECT job_id FROM document_jobs
        WHERE job_id = ANY(ARRAY(SELECT job_id FROM old)) AND ended_at IS NOT NULL
            AND NOT EXISTS (
                SELECT FROM documents
                WHERE (documents.tenant_id, documents.collection, documents.document)
                    = (document_jobs.tenant_id, document_jobs.collection, document_jobs.document)
                    AND (live_job = document_jobs.job_id
                        OR (latest_revision = revision AND kind <> 'reembed'
                            AND deleted_revision IS DISTINCT FROM latest_revision))
            )
        FOR UPDATE SKIP LOCKED
    ),
    texts AS (DELETE FROM document_texts WHERE job_id = ANY(ARRAY(SELECT job_id FROM needless))),
    pruned AS (DELETE FROM document_jobs WHERE job_id = ANY(ARRAY(SELECT job_id FROM needless)))
    SELECT ended_at, job_id, count(*) OVER () FROM old ORDER BY ended_at DESC, job_id DESC LIMIT 1
"""
PRUNE_COMMANDS = """
    DELETE FROM document_commands WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM document_commands
        WHERE stored_at < clock_timestamp() - make_interval(days => %s) ORDER BY stored_at LIMIT %s
    ))
"""
PRUNE_REJECTIONS = """
    DELETE FROM document_rejections WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM document_rejections
        WHERE stored_at < clock_timestamp() - make_interval(days => %s) ORDER BY stored_at LIMIT %s
    ))
"""


class _Place(NamedTuple):
    """The job that a pass has come to: of each tenant in turn, the oldest first."""

    tenant: str = ""  # no tenant has this name: a pass begins here
    ended_at: datetime | str = "-infinity"
    job_id: UUID = UUID(int=0)


class Pruning:
    """The passes over what is older than its days, each in parts."""

    def __init__(self, writes: PostgresWrites, *, jobs_days: int, clock_s: Callable[[], float] = monotonic) -> None:
        """Delete by the connections of *writes*."""
        self._writes = writes
        self._days = jobs_days
        self._clock_s = clock_s
        self._place = _Place()
        self._next_s = float("-inf")

    async def go_on(self) -> bool:
        """Delete a part; return True if the pass has more to do. Raises Transient: Postgres is away."""
        if self._clock_s() < self._next_s:
            return False
        async with self._writes.transaction() as (connection, goes_on), connection.cursor() as cursor:
            has_more = False
            for statement in (PRUNE_COMMANDS, PRUNE_REJECTIONS):
                await cursor.execute(statement, (self._days, ROWS_AT_ONCE))
                has_more |= cursor.rowcount == ROWS_AT_ONCE
                goes_on()
            place = await self._prune_jobs(cursor, self._place)
        self._place = _Place() if place is None else place
        if has_more or place is not None:
            return True
        self._next_s = self._clock_s() + EVERY_S
        return False

    async def _prune_jobs(self, cursor: AsyncCursor[Any], place: _Place) -> _Place | None:
        """Delete what is needless among the next jobs; return the place to go on from, or None at the end."""
        await cursor.execute(PRUNE_JOBS, {**place._asdict(), "days": self._days, "limit": ROWS_AT_ONCE})
        row = await cursor.fetchone()
        if row is not None and row[2] == ROWS_AT_ONCE:
            return _Place(place.tenant, row[0], row[1])
        await cursor.execute(NEXT_TENANT, (place.tenant,))
        following = await cursor.fetchone()
        return None if following is None or following[0] is None else _Place(following[0])
