"""
`DocumentStore` on Postgres. Every statement names the tenant, but for those about lanes, which all share.

Each reads a bounded number of rows by an index, whatever there is: millions of documents, and of jobs that ended.
"""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import msgspec
from psycopg import sql

from gateway.documents.names import shown_chapter
from gateway.documents.store import (
    COUNTED_MAX,
    LOOKED_AT_MAX,
    WINDOW_JOBS_MAX,
    WINDOW_S,
    DocumentJobBrief,
    DocumentJobFilter,
    DocumentJobPlace,
    EndedJob,
    Figures,
    LaneDepth,
    LaneWork,
    OutcomeTotal,
    Revisions,
)
from gateway.documents.views import (
    ChunkPage,
    ChunkView,
    CollectionView,
    DocumentJobSummary,
    DocumentJobView,
    DocumentName,
    DocumentView,
    Embedded,
    JobError,
    QueuePlace,
    StageTimes,
)
from gateway.http import paging
from gateway.kafka.effect import Effect, command_effect
from gateway.postgres.pool import PostgresReads
from schemas.documents.states import IN_FLIGHT, JobKind, Lane, Phase, Stage
from schemas.kafka.places import RecordPlace

TRIED_MAX = 50_000
OLDEST_AMONG = 100  # rows of a lane

_LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"  # a bound that is always there keeps its index condition

_COLUMNS: LiteralString = """
    job_id::text, collection, document, revision, kind, phase, priority, lane, cost, generation, attempts,
    max_retries, version, chunks, chunks_done, error->>'stage' AS error_stage, error->>'reason' AS error_reason,
    error->>'detail' AS error_detail, (error->>'chunk')::integer AS error_chunk, error IS NOT NULL AS has_error,
    parent_job::text, submitted_by, submitted_at, queued_at, begun_at, chunked_at, embedded_at, ended_at
"""

JOB = f"""
    SELECT {_COLUMNS}, metadata::text, source->>'filename' AS filename, source->>'content_type' AS content_type,
           parts::text, traceparent
    FROM document_jobs
    WHERE job_id = %(job_id)s AND tenant_id = %(tenant)s
"""  # noqa: S608  the parts are literals

BRIEF = """
    SELECT job_id::text, collection, document, revision, kind, phase, generation, content_sha256,
           error->>'reason' AS reason, embedded_at, ended_at
    FROM document_jobs
    WHERE job_id = %(job_id)s AND tenant_id = %(tenant)s
"""

ENDED = """
    SELECT job_id::text, phase
    FROM document_jobs
    WHERE job_id = ANY (%(job_ids)s::uuid[]) AND tenant_id = %(tenant)s AND ended_at IS NOT NULL
"""

# What waits before a job, by the index of what is in flight; lanes are shared by all tenants.
AHEAD = """
    SELECT count(*) AS count, coalesce(sum(cost), 0)::bigint AS cost
    FROM (SELECT cost FROM document_jobs
          WHERE lane = %(lane)s AND queued_at < %(queued_at)s AND ended_at IS NULL
          ORDER BY queued_at LIMIT %(limit)s) AS ahead
"""

_ADMITTED: LiteralString = """
    (%(phase)s::text IS NULL OR phase = %(phase)s)
    AND (%(collection)s::text IS NULL OR collection = %(collection)s)
    AND (%(document)s::text IS NULL OR document = %(document)s)
    AND (%(parent_job)s::uuid IS NULL OR parent_job = %(parent_job)s)
"""
_BEFORE: LiteralString = """
    tenant_id = %(tenant)s AND (submitted_at, job_id) < (%(after)s::timestamptz, %(after_id)s::uuid)
"""
_LOOKED_AT: LiteralString = f"""
    FROM document_jobs WHERE {_BEFORE}
    ORDER BY submitted_at DESC, document_jobs.job_id DESC
"""

# The index document_jobs_newest serves the order; a filter is tried on a bounded number of its rows, and ends early.
NEWEST = f"""
    SELECT {_COLUMNS}
    FROM (SELECT * {_LOOKED_AT} LIMIT %(looked_at_max)s) AS looked_at
    WHERE {_ADMITTED}
    ORDER BY submitted_at DESC, looked_at.job_id DESC
    LIMIT %(limit)s
"""  # noqa: S608

# The last row that a page looked at, from which the next one goes on.
LAST_LOOKED_AT = f"""
    SELECT submitted_at, job_id::text {_LOOKED_AT} OFFSET %(looked_at_max)s - 1 LIMIT 1
"""

# The phase stands in the statement, for the partial index document_jobs_of_phase to be found.
_OF_ENDED_PHASE: LiteralString = f"""
    SELECT {_COLUMNS}
    FROM (SELECT * FROM document_jobs
          WHERE {_BEFORE} AND phase IN ('failed', 'cancelled', 'superseded') AND phase = %(phase)s
          ORDER BY submitted_at DESC, document_jobs.job_id DESC LIMIT %(looked_at_max)s) AS looked_at
    WHERE {_ADMITTED}
    ORDER BY submitted_at DESC, looked_at.job_id DESC
    LIMIT %(limit)s
"""  # noqa: S608
NEWEST_OF_PHASE = _OF_ENDED_PHASE
LAST_OF_PHASE = f"""
    SELECT submitted_at, job_id::text FROM document_jobs
    WHERE {_BEFORE} AND phase IN ('failed', 'cancelled', 'superseded') AND phase = %(phase)s
    ORDER BY submitted_at DESC, document_jobs.job_id DESC OFFSET %(looked_at_max)s - 1 LIMIT 1
"""  # noqa: S608

# Few are in flight, of one document, or parts of one file: they are found by indexes of their own, and sorted.
_OF_FEW: LiteralString = """
    ORDER BY submitted_at DESC, looked_at.job_id DESC
    LIMIT %(limit)s
"""
NEWEST_IN_FLIGHT = f"""
    SELECT {_COLUMNS}
    FROM (SELECT * FROM document_jobs WHERE tenant_id = %(tenant)s AND ended_at IS NULL
          LIMIT %(looked_at_max)s) AS looked_at
    WHERE {_BEFORE} AND {_ADMITTED} {_OF_FEW}
"""  # noqa: S608
NEWEST_OF_PARENT = f"""
    SELECT {_COLUMNS}
    FROM (SELECT * FROM document_jobs WHERE parent_job = %(parent_job)s::uuid
          LIMIT %(looked_at_max)s) AS looked_at
    WHERE {_BEFORE} AND {_ADMITTED} {_OF_FEW}
"""  # noqa: S608
NEWEST_OF_DOCUMENT = f"""
    SELECT {_COLUMNS}
    FROM (SELECT * FROM document_jobs
          WHERE tenant_id = %(tenant)s AND collection = %(collection)s AND document = %(document)s
          ORDER BY revision DESC LIMIT %(looked_at_max)s) AS looked_at
    WHERE {_BEFORE} AND {_ADMITTED} {_OF_FEW}
"""  # noqa: S608

UNFINISHED = """
    SELECT count(*) AS count
    FROM (SELECT FROM document_jobs WHERE tenant_id = %(tenant)s AND ended_at IS NULL LIMIT %(limit)s) AS unfinished
"""

REVISIONS = """
    SELECT latest_revision AS latest, live_revision AS live, deleted_revision AS deleted
    FROM documents
    WHERE tenant_id = %(tenant)s AND collection = %(collection)s AND document = %(document)s
"""

_DOCUMENT: LiteralString = """
    SELECT collection, document, latest_revision, live_revision, live_job::text,
           encode(text_sha256, 'hex') AS text_sha256, parser, chunker, characters, chunks,
           missing::text, metadata::text, stored_at
    FROM documents
    WHERE tenant_id = %(tenant)s
"""

DOCUMENT = f"""
    {_DOCUMENT} AND collection = %(collection)s AND document = %(document)s
    AND (live_revision IS NOT NULL OR latest_revision > coalesce(deleted_revision, -1))
"""

DOCUMENTS = f"""
    {_DOCUMENT} AND live_revision IS NOT NULL AND (collection, document) > (%(after)s, %(after_document)s)
    ORDER BY collection, document LIMIT %(limit)s
"""

DOCUMENTS_OF_COLLECTION = f"""
    {_DOCUMENT} AND live_revision IS NOT NULL AND collection = %(collection)s AND document > %(after_document)s
    ORDER BY document LIMIT %(limit)s
"""

# Where a version is live; its chunks are in the table of the embedder that its collection uses.
LIVE = """
    SELECT live_revision, embedder, made.chunks AS chunk_table
    FROM documents
    JOIN document_collections USING (tenant_id, collection)
    JOIN document_embedders AS made USING (embedder)
    WHERE tenant_id = %(tenant)s AND collection = %(collection)s AND document = %(document)s
      AND live_revision IS NOT NULL
"""

# A table's name comes from document_embedders, and is written as an identifier.
CHUNKS: LiteralString = """
    SELECT ordinal, start_at, end_at, heading, text
    FROM {chunks}
    WHERE tenant_id = %(tenant)s AND collection = %(collection)s AND document = %(document)s AND ordinal > %(after)s
    ORDER BY ordinal LIMIT %(limit)s
"""

_COLLECTION: LiteralString = """
    SELECT collection, each.embedder, active.name AS embedder_name, building, next.name AS building_name,
           build.failed AS building_failed, build.failed > 0 AND NOT build.is_going_on AS is_blocked,
           config::text AS language, live.documents, live.chunks, each.created_at
    FROM document_collections AS each
    JOIN document_embedders AS active ON active.embedder = each.embedder
    LEFT JOIN document_embedders AS next ON next.embedder = each.building
    CROSS JOIN LATERAL (
        SELECT count(*) AS documents, coalesce(sum(counted.chunks), 0)::bigint AS chunks
        FROM (SELECT chunks FROM documents
              WHERE tenant_id = each.tenant_id AND collection = each.collection AND live_revision IS NOT NULL
              LIMIT %(counted_max)s + 1) AS counted) AS live
    CROSS JOIN LATERAL (
        SELECT count(*) AS failed,
            EXISTS (SELECT FROM document_jobs
                    WHERE tenant_id = each.tenant_id AND collection = each.collection AND kind = 'reembed'
                      AND ended_at IS NULL) AS is_going_on
        FROM (SELECT FROM document_jobs AS job JOIN documents USING (tenant_id, collection, document)
              WHERE job.tenant_id = each.tenant_id AND job.collection = each.collection AND kind = 'reembed'
                AND phase = 'failed' AND each.building IS NOT NULL AND submitted_at > each.built_since
                AND job.revision = live_revision
                AND (building_revision IS DISTINCT FROM live_revision OR build IS DISTINCT FROM each.builds)
              LIMIT %(counted_max)s) AS failed) AS build
    WHERE tenant_id = %(tenant)s
"""

COLLECTION = f"{_COLLECTION} AND collection = %(collection)s"

COLLECTIONS = f"""
    {_COLLECTION} AND (%(after)s::text IS NULL OR collection > %(after)s)
    ORDER BY collection LIMIT %(limit)s
"""

EMBEDDER = """
    SELECT embedder FROM document_embedders WHERE name = %(name)s OR embedder = %(name)s ORDER BY seen_at DESC LIMIT 1
"""

# As many rows as there are partitions and outcomes.
TOTALS = """
    SELECT outcome, sum(count)::bigint AS count, sum(cost)::bigint AS cost
    FROM document_totals
    WHERE tenant_id = %(tenant)s
    GROUP BY outcome
"""

NEWEST_ENDED = """
    SELECT phase, cost, chunks, CASE phase WHEN 'failed' THEN error->>'stage' END AS failed_stage, submitted_at,
           begun_at, chunked_at, embedded_at, ended_at
    FROM document_jobs
    WHERE tenant_id = %(tenant)s AND ended_at > clock_timestamp() - make_interval(secs => %(window_s)s)
    ORDER BY ended_at DESC LIMIT %(limit)s
"""

LANES = """
    SELECT lane, count(*) AS count, sum(cost)::bigint AS cost, min(queued_at) AS oldest_at
    FROM (SELECT lane, cost, queued_at FROM document_jobs
          WHERE tenant_id = %(tenant)s AND ended_at IS NULL LIMIT %(limit)s) AS counted
    GROUP BY lane
"""

# As many rows as there are tenants, partitions, outcomes and lanes.
WORK = """
    SELECT lane,
           sum(CASE outcome WHEN 'submitted' THEN count ELSE -count END)::bigint AS count,
           sum(CASE outcome WHEN 'submitted' THEN cost ELSE -cost END)::bigint AS cost,
           coalesce(sum(cost) FILTER (WHERE outcome IN ('stored', 'failed')), 0)::bigint AS done_cost
    FROM document_totals
    GROUP BY lane
"""

# What waits for its next attempt, or is in it.
TRIED = """
    SELECT lane, count(*) AS count, sum(cost)::bigint AS cost
    FROM (SELECT lane, cost FROM document_jobs WHERE ended_at IS NULL AND attempts > 0 LIMIT %(limit)s) AS tried
    GROUP BY lane
"""

# The oldest in its first attempt, among the first of each lane.
OLDEST = """
    SELECT lane, extract(epoch FROM clock_timestamp() - min(queued_at))::float8 AS oldest_s
    FROM unnest(%(lanes)s::text[]) AS lanes (lane)
    CROSS JOIN LATERAL (
        SELECT queued_at, attempts FROM document_jobs AS job
        WHERE job.lane = lanes.lane AND ended_at IS NULL
        ORDER BY queued_at LIMIT %(limit)s) AS first
    WHERE attempts = 0
    GROUP BY lane
"""

NOW = "SELECT clock_timestamp() AS now"

# Where a record is in the log, its row must be of the same command, for a log that was cut off gives old places to new
# records.
OUTCOME = """
    SELECT CASE done.outcome WHEN 'refused' THEN 'rejected' ELSE done.outcome END AS outcome, done.detail AS reason,
           done.stored_at, job.phase
    FROM document_commands AS done
    LEFT JOIN document_jobs AS job ON job.job_id = done.job_id AND job.tenant_id = done.tenant_id
    WHERE done.kafka_partition = %(partition)s AND done.kafka_offset = %(offset)s AND done.tenant_id = %(tenant)s
      AND (%(command_id)s::text IS NULL OR done.command_id = %(command_id)s)
  UNION ALL
    SELECT 'rejected', reason || ': ' || detail, stored_at, NULL
    FROM document_rejections
    WHERE kafka_partition = %(partition)s AND kafka_offset = %(offset)s AND tenant_id = %(tenant)s
  LIMIT 1
"""

_ENDED_PHASES = (Phase.FAILED, Phase.CANCELLED, Phase.SUPERSEDED)  # of the index document_jobs_of_phase


class PostgresDocumentStore:
    """`DocumentStore` on read-only connections."""

    def __init__(self, reads: PostgresReads) -> None:
        """Read by the connections of *reads*."""
        self._reads = reads

    async def job(self, tenant: str, job_id: str) -> DocumentJobView | None:
        """See `DocumentStore.job`."""
        async with self._reads.connection() as connection:
            row = await (await connection.execute(JOB, {"tenant": tenant, "job_id": job_id})).fetchone()
            if row is None:
                return None
            more: dict[str, Any] = {}
            if row["phase"] == Phase.SUBMITTED:
                place = {"lane": row["lane"], "queued_at": row["queued_at"], "limit": COUNTED_MAX}
                ahead = await (await connection.execute(AHEAD, place)).fetchone()
                assert ahead is not None
                more["queue"] = QueuePlace(lane=Lane(row["lane"]), ahead_count=ahead["count"], ahead_cost=ahead["cost"])
        return DocumentJobView(
            **_summary_fields(row),
            metadata=_raw(row["metadata"]),
            filename=row["filename"],
            content_type=row["content_type"],
            parts=_raw(row["parts"]),
            traceparent=row["traceparent"],
            **more,
        )

    async def brief(self, tenant: str, job_id: str) -> DocumentJobBrief | None:
        """See `DocumentStore.brief`."""
        row = await self._reads.row(BRIEF, {"tenant": tenant, "job_id": job_id}, urgent=True)
        if row is None:
            return None
        return DocumentJobBrief(**row | {"kind": JobKind(row["kind"]), "phase": Phase(row["phase"])})

    async def ended(self, tenant: str, job_ids: Sequence[str]) -> Mapping[str, Phase]:
        """See `DocumentStore.ended`."""
        rows = await self._reads.rows(ENDED, {"tenant": tenant, "job_ids": list(job_ids)})
        return {row["job_id"]: Phase(row["phase"]) for row in rows}

    async def jobs(
        self, tenant: str, admitted: DocumentJobFilter, *, after: DocumentJobPlace | None, limit: int
    ) -> tuple[Sequence[DocumentJobSummary], DocumentJobPlace | None]:
        """See `DocumentStore.jobs`."""
        statement, last_statement = _listing(admitted)
        # Without a filter each row that is looked at is one of the page: one more tells whether there is a next one.
        looked_at_max = limit + 1 if admitted == DocumentJobFilter() else LOOKED_AT_MAX
        asked: dict[str, Any] = {
            "tenant": tenant,
            "phase": admitted.phase,
            "collection": admitted.collection,
            "document": admitted.document,
            "parent_job": admitted.parent_job,
            "after": after.submitted_at if after else "infinity",
            "after_id": after.job_id if after else _LAST_ID,
            "looked_at_max": looked_at_max,
            "limit": limit + 1,
        }
        async with self._reads.connection() as connection:
            rows = await (await connection.execute(statement, asked)).fetchall()
            page = [DocumentJobSummary(**_summary_fields(row)) for row in rows[:limit]]
            if len(rows) > limit:
                return page, DocumentJobPlace(rows[limit - 1]["submitted_at"], page[-1].job_id)
            if last_statement is None or admitted == DocumentJobFilter():
                return page, None
            last = await (await connection.execute(last_statement, asked)).fetchone()
        return page, None if last is None else DocumentJobPlace(last["submitted_at"], last["job_id"])

    async def unfinished(self, tenant: str, *, count_max: int) -> int:
        """See `DocumentStore.unfinished`."""
        row = await self._reads.row(UNFINISHED, {"tenant": tenant, "limit": count_max}, urgent=True)
        return 0 if row is None else int(row["count"])

    async def revisions(self, tenant: str, collection: str, document: str) -> Revisions | None:
        """See `DocumentStore.revisions`."""
        row = await self._reads.row(REVISIONS, _named(tenant, collection, document), urgent=True)
        return None if row is None else Revisions(**row)

    async def document(self, tenant: str, collection: str, document: str) -> DocumentView | None:
        """See `DocumentStore.document`."""
        row = await self._reads.row(DOCUMENT, _named(tenant, collection, document))
        return None if row is None else _document_view(row)

    async def documents(
        self, tenant: str, collection: str | None, *, after: tuple[str, str] | None, limit: int
    ) -> tuple[Sequence[DocumentView], tuple[str, str] | None]:
        """See `DocumentStore.documents`."""
        statement = DOCUMENTS if collection is None else DOCUMENTS_OF_COLLECTION
        after_collection, after_document = after or ("", "")
        asked = {
            "tenant": tenant,
            "collection": collection,
            "after": after_collection,
            "after_document": after_document,
            "limit": limit + 1,
        }
        rows = await self._reads.rows(statement, asked)
        last = (rows[limit - 1]["collection"], rows[limit - 1]["document"]) if len(rows) > limit else None
        return [_document_view(row) for row in rows[:limit]], last

    async def chunks(self, tenant: str, collection: str, document: str, *, after: int, limit: int) -> ChunkPage | None:
        """See `DocumentStore.chunks`."""
        asked = _named(tenant, collection, document)
        async with self._reads.connection() as connection, connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # chunks of that revision
            live = await (await connection.execute(LIVE, asked)).fetchone()
            if live is None:
                return None
            statement = sql.SQL(CHUNKS).format(chunks=sql.Identifier(live["chunk_table"]))
            bounds = {"after": after, "limit": limit + 1}
            rows = await (await connection.execute(statement, asked | bounds)).fetchall()
        return ChunkPage(
            document=_name(collection, document),
            revision=live["live_revision"],
            embedder=live["embedder"],
            chunks=[
                ChunkView(
                    chunk=row["ordinal"],
                    span=(row["start_at"], row["end_at"]),
                    heading=row["heading"],
                    text=row["text"],
                )
                for row in rows[:limit]
            ],
            next_cursor=paging.cursor((rows[limit - 1]["ordinal"],)) if len(rows) > limit else None,
        )

    async def collection(self, tenant: str, collection: str) -> CollectionView | None:
        """See `DocumentStore.collection`."""
        row = await self._reads.row(
            COLLECTION, {"tenant": tenant, "collection": collection, "counted_max": COUNTED_MAX}
        )
        return None if row is None else _collection_view(row)

    async def collections(self, tenant: str, *, after: str | None, limit: int) -> tuple[Sequence[CollectionView], bool]:
        """See `DocumentStore.collections`."""
        asked = {"tenant": tenant, "after": after, "limit": limit + 1, "counted_max": COUNTED_MAX}
        rows = await self._reads.rows(COLLECTIONS, asked)
        return [_collection_view(row) for row in rows[:limit]], len(rows) > limit

    async def embedder(self, name: str) -> str | None:
        """See `DocumentStore.embedder`."""
        row = await self._reads.row(EMBEDDER, {"name": name})
        return None if row is None else str(row["embedder"])

    async def figures(self, tenant: str) -> Figures:
        """See `DocumentStore.figures`."""
        async with self._reads.connection() as connection, connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # so that the line adds up
            now = await (await connection.execute(NOW)).fetchone()
            asked = {"tenant": tenant, "window_s": WINDOW_S}
            totals = await (await connection.execute(TOTALS, asked)).fetchall()
            ended = await (await connection.execute(NEWEST_ENDED, asked | {"limit": WINDOW_JOBS_MAX})).fetchall()
            lanes = await (await connection.execute(LANES, asked | {"limit": COUNTED_MAX})).fetchall()
        assert now is not None
        return Figures(
            now=now["now"],
            totals={row["outcome"]: OutcomeTotal(count=row["count"], cost=row["cost"]) for row in totals},
            ended=[EndedJob(**row | {"phase": Phase(row["phase"])}) for row in ended],
            lanes={
                Lane(row["lane"]): LaneDepth(count=row["count"], cost=row["cost"], oldest_at=row["oldest_at"])
                for row in lanes
            },
        )

    async def work(self) -> Mapping[Lane, LaneWork]:
        """See `DocumentStore.work`."""
        async with self._reads.connection(urgent=True) as connection, connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # what is tried is in flight
            totals = await (await connection.execute(WORK)).fetchall()
            tried = await (await connection.execute(TRIED, {"limit": TRIED_MAX})).fetchall()
            first = {"lanes": list(Lane), "limit": OLDEST_AMONG}
            oldest = await (await connection.execute(OLDEST, first)).fetchall()
        total_of, tried_of = ({row["lane"]: row for row in rows} for rows in (totals, tried))
        oldest_s = {row["lane"]: row["oldest_s"] for row in oldest}
        return {lane: _lane_work(total_of.get(lane, {}), tried_of.get(lane, {}), oldest_s.get(lane)) for lane in Lane}

    async def effect(self, tenant: str, place: RecordPlace, command_id: str | None) -> Effect | None:
        """See `DocumentStore.effect`."""
        asked = {
            "tenant": tenant,
            "partition": place.partition,
            "offset": place.offset,
            "command_id": command_id,
        }
        row = await self._reads.row(OUTCOME, asked)
        return None if row is None else command_effect(row, state=row["phase"])


def _lane_work(total: Mapping[str, Any], tried: Mapping[str, Any], oldest_s: float | None) -> LaneWork:
    return LaneWork(
        count=max(0, total.get("count", 0) - tried.get("count", 0)),
        cost=max(0, total.get("cost", 0) - tried.get("cost", 0)),
        done_cost=total.get("done_cost", 0),
        oldest_s=oldest_s,
    )


def _listing(admitted: DocumentJobFilter) -> tuple[LiteralString, LiteralString | None]:
    """Return the statement of a list, and the one for its last row looked at; None where it looks at all of them."""
    if admitted.parent_job is not None:
        return NEWEST_OF_PARENT, None
    if admitted.collection is not None and admitted.document is not None:
        return NEWEST_OF_DOCUMENT, None
    if admitted.phase in IN_FLIGHT:
        return NEWEST_IN_FLIGHT, None
    if admitted.phase in _ENDED_PHASES:
        return NEWEST_OF_PHASE, LAST_OF_PHASE
    return NEWEST, LAST_LOOKED_AT


def _named(tenant: str, collection: str, document: str) -> dict[str, Any]:
    return {"tenant": tenant, "collection": collection, "document": document}


def _name(collection: str, document: str) -> DocumentName:
    return DocumentName(book_slug=collection, chapter_index=shown_chapter(document))


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text)


def _summary_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    times = {
        name: row[name] for name in ("submitted_at", "queued_at", "begun_at", "chunked_at", "embedded_at", "ended_at")
    }
    error = JobError(
        stage=None if row["error_stage"] is None else Stage(row["error_stage"]),
        reason=row["error_reason"],
        detail=row["error_detail"],
        chunk=row["error_chunk"],
    )
    plain = (
        *("job_id", "revision", "priority", "cost", "generation", "attempts", "max_retries", "version"),
        *("parent_job", "submitted_by"),
    )
    return {
        **{name: row[name] for name in plain},
        "document": _name(row["collection"], row["document"]),
        "kind": JobKind(row["kind"]),
        "phase": Phase(row["phase"]),
        "lane": Lane(row["lane"]),
        "embedded": None if row["chunks"] is None else Embedded(done=row["chunks_done"] or 0, of=row["chunks"]),
        "error": error if row["has_error"] else None,
        "times": StageTimes(
            **times,
            queue_s=_between(times, "submitted_at", "begun_at"),
            chunk_s=_between(times, "begun_at", "chunked_at"),
            embed_s=_between(times, "chunked_at", "embedded_at"),
            store_s=_between(times, "embedded_at", "ended_at"),
        ),
    }


def _between(times: Mapping[str, Any], start: str, end: str) -> float | None:
    if times[start] is None or times[end] is None:
        return None
    return max(0.0, float((times[end] - times[start]).total_seconds()))


def _document_view(row: Mapping[str, Any]) -> DocumentView:
    plain = (
        *("latest_revision", "live_revision", "live_job", "text_sha256", "parser", "chunker", "characters"),
        *("chunks", "stored_at"),
    )
    return DocumentView(
        **{name: row[name] for name in plain},
        document=_name(row["collection"], row["document"]),
        missing=_raw(row["missing"]),
        metadata=_raw(row["metadata"]),
    )


def _collection_view(row: dict[str, Any]) -> CollectionView:
    is_estimate = row["documents"] > COUNTED_MAX
    return CollectionView(
        book_slug=row.pop("collection"),
        **row | {"documents": min(row["documents"], COUNTED_MAX), "is_estimate": is_estimate},
    )
