"""
Re-embedding of collections: a next embedder is built beside the active one, and takes its place when it is complete.

A look every few seconds gives out work for live versions that the next embedder lacks, a few at a time in the lane
`low`; new versions are embedded by both. When none is lacking, the collection is flipped in one transaction. What the
previous embedder had of it is deleted afterwards, in parts.

A document that the next embedder fails at holds the flip up, since searches would lose it. Asked for once more, a build
tries such documents again, or does without them: they stay live, without a chunk, until they are put again.
"""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, LiteralString

from psycopg import AsyncCursor, sql

from processors.documents.chunk_tables import chunk_tables
from processors.documents.counts import JobCounts
from processors.documents.lanes import WorkWriter
from processors.documents.moves import CHANGED, work_of
from processors.postgres.writes import PostgresWrites
from processors.runtime.errors import Transient
from processors.runtime.failpoints import Failpoint, reach
from schemas.documents.records import DocumentWork, ReembedCollection
from schemas.documents.states import Phase

IN_FLIGHT_MAX = 200  # jobs of one collection's build
DELETED_AT_ONCE = 1000
SKIPPED_MAX = 10_000  # documents of one flip: they are written in its transaction
REPEATED_EVERY_S = 600.0

IS_KNOWN = "SELECT EXISTS (SELECT FROM document_embedders WHERE embedder = %s)"
# Asked for once more, a build goes on, and what failed is tried again, unless it is to be skipped.
BUILD = """
    UPDATE document_collections
    SET building = nullif(%(embedder)s, embedder), skips_failed = %(skips_failed)s,
        builds = builds + (building IS DISTINCT FROM %(embedder)s)::integer,
        built_since = CASE WHEN building = %(embedder)s AND %(skips_failed)s THEN built_since
            ELSE clock_timestamp() END,
        leaving = array_remove(CASE WHEN building IS NULL THEN leaving ELSE array_append(leaving, building) END,
            %(embedder)s)
    WHERE tenant_id = %(tenant)s AND collection = %(collection)s
    RETURNING embedder
"""
BUILDING = """
    SELECT tenant_id, collection, leaving FROM document_collections WHERE building IS NOT NULL OR leaving <> '{}'
"""
# One process at a time builds a collection. The row itself is locked by whoever writes to it, and seldom free.
IS_ALONE = "SELECT pg_try_advisory_xact_lock(hashtext('re-embedding'), hashtext(%s))"
BUILD_OF = """
    SELECT building, builds, skips_failed FROM document_collections
    WHERE tenant_id = %s AND collection = %s AND building IS NOT NULL
"""
LOCK = """
    SELECT FROM document_collections
    WHERE tenant_id = %(tenant)s AND collection = %(collection)s AND building = %(building)s AND builds = %(build)s
        AND skips_failed = %(skips_failed)s
    FOR UPDATE
"""
LACKING: LiteralString = """
    live_revision IS NOT NULL
    AND (building_revision IS DISTINCT FROM live_revision OR build IS DISTINCT FROM %(build)s)
"""
FAILED: LiteralString = """
    EXISTS (
        SELECT FROM document_jobs
        WHERE (document_jobs.tenant_id, document_jobs.collection, document_jobs.document)
            = (documents.tenant_id, documents.collection, documents.document)
            AND kind = 'reembed' AND phase = 'failed' AND revision = documents.live_revision
            AND submitted_at > (SELECT built_since FROM document_collections
                WHERE tenant_id = %(tenant)s AND collection = %(collection)s)
    )
"""
IS_COMPLETE = f"""
    SELECT NOT EXISTS (
        SELECT FROM documents WHERE tenant_id = %(tenant)s AND collection = %(collection)s AND {LACKING}
            AND NOT (%(skips_failed)s AND {FAILED})
    )
"""  # noqa: S608  the parts are literals
# Their chunks go with the previous embedder. Without a chunker the same content counts as a change when it is put.
SKIP = f"""
    UPDATE documents SET chunker = NULL, chunks = 0, updated_at = clock_timestamp()
    WHERE tenant_id = %(tenant)s AND collection = %(collection)s AND {LACKING}
"""  # noqa: S608
ARE_FEW = f"""
    SELECT count(*) <= %(limit)s FROM (
        SELECT FROM documents WHERE tenant_id = %(tenant)s AND collection = %(collection)s AND {LACKING}
        LIMIT %(limit)s + 1
    ) AS lacking
"""  # noqa: S608
FLIP = """
    UPDATE document_collections
    SET embedder = building, building = NULL, built_since = NULL, skips_failed = false,
        leaving = array_append(leaving, embedder)
    WHERE tenant_id = %s AND collection = %s
"""
IN_FLIGHT = """
    SELECT count(*) FROM document_jobs
    WHERE tenant_id = %s AND collection = %s AND kind = 'reembed' AND ended_at IS NULL
"""
# One job for each live version that has none in flight and none that failed. The limit is a plain number: Postgres
# reads the whole table of jobs where it cannot tell that few are asked for.
ADD_JOBS = f"""
    WITH chosen AS (
        SELECT documents.* FROM documents
        WHERE tenant_id = %(tenant)s AND collection = %(collection)s AND {LACKING}
            AND NOT EXISTS (
                SELECT FROM document_jobs
                WHERE (document_jobs.tenant_id, document_jobs.collection, document_jobs.document)
                    = (documents.tenant_id, documents.collection, documents.document)
                    AND kind = 'reembed' AND ended_at IS NULL
            )
            AND NOT {FAILED}
        ORDER BY document
        LIMIT %(limit)s
    ),
    job AS (
        INSERT INTO document_jobs (job_id, tenant_id, collection, document, partition, revision, kind, priority, lane,
            cost, max_retries, skips_bad, embedders, is_markdown, parser, text_sha256, submitted_at)
        SELECT gen_random_uuid(), tenant_id, collection, document, chosen.partition, live_revision, 'reembed', 1,
            'low', coalesce(characters, 1), 3, coalesce(source.skips_bad, false), ARRAY[%(building)s],
            coalesce(source.is_markdown, false), chosen.parser, chosen.text_sha256, clock_timestamp()
        FROM chosen LEFT JOIN LATERAL (
            SELECT skips_bad, is_markdown FROM document_jobs WHERE document_jobs.job_id = chosen.live_job
        ) AS source ON true
        RETURNING *
    ),
    changed AS ({CHANGED} FROM job)
    SELECT job_id::text, tenant_id, collection, document, revision, generation, lane, cost, embedders, job.partition
    FROM job
"""  # noqa: S608
# Work whose record a process may have died before: it is given out once more.
FORGOTTEN = """
    SELECT job_id::text, tenant_id, collection, document, revision, generation, lane, cost, embedders
    FROM document_jobs
    WHERE tenant_id = %s AND collection = %s AND kind = 'reembed' AND ended_at IS NULL AND begun_at IS NULL
    LIMIT %s
"""
# Locked, so that none of it is built again meanwhile.
IS_LEAVING = """
    SELECT FROM document_collections WHERE tenant_id = %s AND collection = %s AND %s = ANY(leaving) FOR UPDATE
"""
# What another transaction deletes at this moment is left to it, or to a later look: the collection is locked here, and
# whoever waits for it may be the one to be waited for.
DELETE_LEFT = """
    DELETE FROM {} WHERE id IN (
        SELECT id FROM {} WHERE tenant_id = %s AND collection = %s LIMIT %s FOR UPDATE SKIP LOCKED
    )
"""
IS_LEFT = "SELECT NOT EXISTS (SELECT FROM {} WHERE tenant_id = %s AND collection = %s)"
HAS_LEFT = """
    UPDATE document_collections SET leaving = array_remove(leaving, %s) WHERE tenant_id = %s AND collection = %s
"""


async def start_build(cursor: AsyncCursor[Any], command: ReembedCollection) -> str | None:
    """Let a collection be embedded with another embedder, within the caller's transaction; return why not, or None."""
    if not await _is(cursor, IS_KNOWN, [command.embedder]):
        return "no documents-embed process has this embedder"
    wanted = {
        "tenant": command.tenant,
        "collection": command.collection,
        "embedder": command.embedder,
        "skips_failed": command.skips_failed,
    }
    await cursor.execute(BUILD, wanted)
    if (row := await cursor.fetchone()) is None:
        return "there is no such collection"
    return "it is embedded with this embedder already" if row[0] == command.embedder else None


class Reembedding:
    """The work of every collection that is being built."""

    def __init__(self, writes: PostgresWrites, work: WorkWriter, *, clock_s: Callable[[], float] = monotonic) -> None:
        """Read and write by the connections of *writes*, and give out work by *work*."""
        self._writes = writes
        self._work = work
        self._clock_s = clock_s
        self._repeated_at_s: dict[tuple[str, str], float] = {}  # by tenant and collection

    async def go_on(self) -> bool:
        """
        Give out work, flip what is complete, and delete what nobody searches; return True if there is more to delete.

        Raises:
            Transient: Kafka or Postgres is away.
        """
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await cursor.execute(BUILDING)
            building = await cursor.fetchall()
        has_more = False
        for tenant, collection, leaving in building:
            work = await self._build(tenant, collection)
            reach(Failpoint.AFTER_ROWS)
            try:
                await self._work.write(work)
            except Transient:
                self._repeated_at_s.pop((tenant, collection), None)  # at the next look, as after a death
                raise
            for embedder in leaving:
                has_more |= await self._delete_left(tenant, collection, embedder)
        return has_more

    async def _build(self, tenant: str, collection: str) -> Sequence[DocumentWork]:
        async with self._writes.transaction() as (connection, goes_on), connection.cursor() as cursor:
            if not await _is(cursor, IS_ALONE, [f"{tenant}/{collection}"]):
                return ()
            await cursor.execute(BUILD_OF, (tenant, collection))
            if (row := await cursor.fetchone()) is None:
                return ()
            building, build, skips_failed = row
            of_build = {"tenant": tenant, "collection": collection, "building": building, "build": build}
            of_build |= {"skips_failed": skips_failed}
            if await _is(cursor, IS_COMPLETE, of_build):
                await _flip(cursor, of_build)
                return ()
            goes_on()
            forgotten = await self._forgotten(cursor, tenant, collection)
            await cursor.execute(IN_FLIGHT, (tenant, collection))
            in_flight = await cursor.fetchone()
            limit = IN_FLIGHT_MAX if in_flight is None else max(0, IN_FLIGHT_MAX - in_flight[0])
            await cursor.execute(ADD_JOBS, of_build | {"limit": limit})
            counts, added = JobCounts(), []
            for *columns, partition in await cursor.fetchall():
                work = work_of(columns)
                counts.add(tenant, partition, Phase.SUBMITTED, lane=work.lane, cost=work.cost)
                added.append(work)
            await counts.write(cursor)
            return [*(work_of(each) for each in forgotten), *added]

    async def _forgotten(self, cursor: AsyncCursor[Any], tenant: str, collection: str) -> Sequence[Any]:
        """
        Return the work that nobody has begun: at the first look, after a death, and then from time to time.

        Not at every look: what waits behind the other lanes would be doubled every few seconds.
        """
        now_s, last_s = self._clock_s(), self._repeated_at_s.get((tenant, collection))
        if last_s is not None and now_s - last_s < REPEATED_EVERY_S:
            return ()
        self._repeated_at_s[tenant, collection] = now_s
        await cursor.execute(FORGOTTEN, (tenant, collection, IN_FLIGHT_MAX))
        return await cursor.fetchall()

    async def _delete_left(self, tenant: str, collection: str, embedder: str) -> bool:
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await cursor.execute(IS_LEAVING, (tenant, collection, embedder))
            if not cursor.rowcount:
                return False
            table = (await chunk_tables(cursor))[embedder]
            statement = sql.SQL(DELETE_LEFT).format(table, table)
            await cursor.execute(statement, (tenant, collection, DELETED_AT_ONCE))
            if cursor.rowcount == DELETED_AT_ONCE:
                return True
            if await _is(cursor, sql.SQL(IS_LEFT).format(table), (tenant, collection)):
                await cursor.execute(HAS_LEFT, (embedder, tenant, collection))
        return False


async def _flip(cursor: AsyncCursor[Any], of_build: Mapping[str, object]) -> None:
    """Let a complete build take the place of the active embedder, unless something has come in between."""
    await cursor.execute(LOCK, of_build)
    # What was written before the lock was had may lack the next embedder.
    if not cursor.rowcount or not await _is(cursor, IS_COMPLETE, of_build):
        return
    if of_build["skips_failed"]:
        if not await _is(cursor, ARE_FEW, {**of_build, "limit": SKIPPED_MAX}):
            return
        await cursor.execute(SKIP, of_build)
    await cursor.execute(FLIP, (of_build["tenant"], of_build["collection"]))


async def _is(
    cursor: AsyncCursor[Any], question: LiteralString | sql.Composed, values: Sequence[object] | Mapping[str, object]
) -> bool:
    """Return the answer to a statement that returns one boolean."""
    await cursor.execute(question, values)
    row = await cursor.fetchone()
    return row is not None and bool(row[0])
