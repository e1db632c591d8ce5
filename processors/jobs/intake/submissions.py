"""Submissions as rows: one statement for all jobs of a run of commands that are new."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from psycopg import AsyncCursor

from processors.jobs.moves import CHANGED, RANK
from processors.runtime.contract import Arrival
from processors.runtime.errors import Transient
from processors.runtime.receiving import received_at
from schemas.jobs.records import SubmitJob
from schemas.kafka import headers

LOOKS_MAX = 10

STORED = "SELECT job_id, tenant_id, content_sha256 FROM jobs WHERE job_id = ANY(%s)"

# A queue that a direct producer names; no executor may serve it, which `tidegate doctor` reports.
ADD_QUEUES = "INSERT INTO job_queues (queue) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING"

# In one order for all, so that no two transactions wait for each other.
TAKE_DEDUPE_KEYS = """
    INSERT INTO job_dedupe_keys (tenant_id, type, dedupe_key, job_id)
    SELECT * FROM unnest(%(tenants)s::text[], %(types)s::text[], %(keys)s::text[], %(ids)s::uuid[])
        AS wanted (tenant_id, type, dedupe_key, job_id)
    ORDER BY tenant_id, type, dedupe_key
    ON CONFLICT DO NOTHING
"""
DEDUPE_KEY_OWNERS = """
    SELECT tenant_id, type, dedupe_key, job_id
    FROM job_dedupe_keys
    JOIN unnest(%(tenants)s::text[], %(types)s::text[], %(keys)s::text[]) AS wanted (tenant_id, type, dedupe_key)
        USING (tenant_id, type, dedupe_key)
"""

# What is accepted first is first of its priority, whenever it comes here. An alias of another job ends at once.
INSERT_JOBS = f"""
    WITH arrived AS (
        SELECT * FROM unnest(%(ids)s::uuid[], %(tenants)s::text[], %(types)s::text[], %(queues)s::text[],
            %(priorities)s::smallint[], %(parameters)s::text[], %(metadata)s::text[], %(tags)s::text[],
            %(users)s::text[], %(keys)s::text[], %(max_attempts)s::smallint[], %(timeouts)s::double precision[],
            %(run_ats)s::bigint[], %(expires_ats)s::bigint[], %(schedules)s::uuid[], %(submitters)s::text[],
            %(digests)s::bytea[], %(traces)s::text[], %(received)s::timestamptz[], %(aliases)s::uuid[])
            AS arrived (job_id, tenant_id, type, queue, priority, parameters, metadata, tags, user_id, dedupe_key,
                max_attempts, timeout_s, run_at_ms, expires_at_ms, schedule_id, submitted_by, content_sha256,
                traceparent, created_at, duplicate_of)
    ),
    new AS (
        INSERT INTO jobs (job_id, tenant_id, type, queue, priority, parameters, metadata, tags, user_id, dedupe_key,
            max_attempts, timeout_s, run_at, expires_at, schedule_id, submitted_by, content_sha256, traceparent,
            created_at, duplicate_of, status, reason, finished_at)
        SELECT job_id, tenant_id, type, queue, priority, parameters::json, metadata::jsonb,
            CASE WHEN tags IS NULL THEN '{{}}' ELSE ARRAY(SELECT json_array_elements_text(tags::json)) END,
            user_id, dedupe_key, max_attempts, timeout_s,
            coalesce(to_timestamp(run_at_ms / 1000.0), created_at), to_timestamp(expires_at_ms / 1000.0), schedule_id,
            submitted_by, content_sha256, traceparent, created_at, duplicate_of,
            CASE WHEN duplicate_of IS NULL THEN 'pending' ELSE 'cancelled' END,
            CASE WHEN duplicate_of IS NOT NULL THEN 'duplicate' END,
            CASE WHEN duplicate_of IS NOT NULL THEN clock_timestamp() END
        FROM arrived
        ON CONFLICT (job_id) DO NOTHING
        RETURNING *
    ),
    waiting AS (SELECT new.*, run_at_ms FROM new JOIN arrived USING (job_id) WHERE new.duplicate_of IS NULL),
    ready AS (
        INSERT INTO job_ready (job_id, queue, tenant_id, type, rank, expires_at)
        SELECT job_id, queue, tenant_id, type, {RANK}, expires_at
        FROM waiting JOIN job_queues USING (queue)
        WHERE run_at_ms IS NULL OR run_at <= clock_timestamp()
    ),
    delayed AS (
        INSERT INTO job_delayed (job_id, queue, tenant_id, run_at)
        SELECT job_id, queue, tenant_id, run_at FROM waiting
        WHERE run_at_ms IS NOT NULL AND run_at > clock_timestamp()
    ),
    changed AS ({CHANGED} FROM new)
    SELECT count(*) FROM new
"""  # noqa: S608  the parts are literals
NOTIFY = "SELECT pg_notify('tidegate_jobs', queue) FROM unnest(%s::text[]) AS ready (queue)"


class StoredJob(NamedTuple):
    """A job that is stored, or comes earlier in the slice."""

    tenant: str
    content_sha256: bytes


Key = tuple[str, str, str]  # tenant, type, dedupe key


async def stored_jobs(cursor: AsyncCursor[Any], job_ids: Sequence[str]) -> dict[str, StoredJob]:
    """Return which of *job_ids* are stored."""
    await cursor.execute(STORED, [[UUID(each) for each in job_ids]])
    return {str(job_id): StoredJob(tenant, digest) for job_id, tenant, digest in await cursor.fetchall()}


async def insert_jobs(cursor: AsyncCursor[Any], arrivals: Sequence[Arrival[SubmitJob]]) -> Mapping[str, str]:
    """
    Insert jobs that are new, within the caller's transaction; return the aliases among them and the jobs they are of.

    Raises:
        Transient: another worker inserts the same jobs.
    """
    commands = [arrival.record for arrival in arrivals]
    await cursor.execute(ADD_QUEUES, [sorted({command.queue for command in commands})])
    aliases = await _aliases(cursor, [command for command in commands if command.dedupe_key is not None])
    await cursor.execute(INSERT_JOBS, _columns(arrivals, aliases))
    row = await cursor.fetchone()
    if row is None or row[0] != len(arrivals):
        raise Transient("another worker writes the same rows")
    await cursor.execute(NOTIFY, [sorted({command.queue for command in commands})])
    return aliases


async def _aliases(cursor: AsyncCursor[Any], commands: Sequence[SubmitJob]) -> Mapping[str, str]:
    """Take the dedupe keys of *commands*; return those whose key another job has, and that job."""
    if not commands:
        return {}
    wanted = {
        "tenants": [command.tenant for command in commands],
        "types": [command.type for command in commands],
        "keys": [command.dedupe_key for command in commands],
        "ids": [UUID(command.job_id) for command in commands],
    }
    for _ in range(LOOKS_MAX):
        await cursor.execute(TAKE_DEDUPE_KEYS, wanted)
        await cursor.execute(DEDUPE_KEY_OWNERS, wanted)
        owners: dict[Key, str] = {(row[0], row[1], row[2]): str(row[3]) for row in await cursor.fetchall()}
        found = {command.job_id: owners.get(_key(command)) for command in commands}
        if None not in found.values():  # else a job ended between the two statements, and its key is free
            return {job_id: owner for job_id, owner in found.items() if owner is not None and owner != job_id}
    raise Transient("the dedupe keys of a slice change faster than they can be taken")


def _key(command: SubmitJob) -> Key:
    return command.tenant, command.type, command.dedupe_key or ""


def _columns(arrivals: Sequence[Arrival[SubmitJob]], aliases: Mapping[str, str]) -> dict[str, Sequence[object]]:
    commands = [arrival.record for arrival in arrivals]
    return {
        "ids": [UUID(command.job_id) for command in commands],
        "tenants": [command.tenant for command in commands],
        "types": [command.type for command in commands],
        "queues": [command.queue for command in commands],
        "priorities": [command.priority for command in commands],
        "parameters": [command.parameters for command in commands],
        "metadata": [command.metadata for command in commands],
        "tags": [_tags(command) for command in commands],
        "users": [command.user_id for command in commands],
        "keys": [command.dedupe_key for command in commands],
        "max_attempts": [command.max_attempts for command in commands],
        "timeouts": [command.timeout_s for command in commands],
        "run_ats": [command.run_at_ms for command in commands],
        "expires_ats": [command.expires_at_ms for command in commands],
        "schedules": [None if command.schedule_id is None else UUID(command.schedule_id) for command in commands],
        "submitters": [command.submitted_by for command in commands],
        "digests": [command.content_sha256 for command in commands],
        "traces": [_trace(arrival) for arrival in arrivals],
        "received": [received_at(arrival) for arrival in arrivals],
        "aliases": [UUID(aliases[each.job_id]) if each.job_id in aliases else None for each in commands],
    }


def _tags(command: SubmitJob) -> str | None:
    return msgspec.json.encode(command.tags).decode() if command.tags else None


def _trace(arrival: Arrival[SubmitJob]) -> str | None:
    value = arrival.headers.get(headers.TRACEPARENT)
    return None if value is None or not arrival.is_sealed else value.decode("ascii", "replace")
