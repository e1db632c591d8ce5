"""The health of documents in Postgres: extensions, what waits, what failed recently, what is stuck, what is built."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import LiteralString, TypeVar

import psycopg
from psycopg.rows import class_row

from deploy.errors import CommandFailed, NotReachable

Row = TypeVar("Row")

WAITING_S_MAX = 300.0  # behind other documents a wait may be long; where nothing moves either, it is a problem
STILL_S_MAX = 120.0
STUCK_S = 900.0  # since the last stage of a document that some process has begun
RECENT_S = 3600.0
COUNTED_MAX = 10_000
SHOWN_MAX = 20
TIMEOUT_S = 5
EXTENSIONS = ("vector", "btree_gin")

INSTALLED: LiteralString = """
    SELECT name::text AS name, installed_version AS version FROM pg_available_extensions
    WHERE name = ANY(%(extensions)s) ORDER BY name
"""
# Each subquery reads the index of what is in flight, and no more of it than is counted.
LANES: LiteralString = """
    SELECT lane,
        (SELECT count(*) FROM (SELECT FROM document_jobs WHERE document_jobs.lane = lanes.lane AND ended_at IS NULL
            LIMIT %(counted)s) AS waiting) AS documents,
        (SELECT extract(epoch FROM clock_timestamp() - min(queued_at))::float8 FROM document_jobs
            WHERE document_jobs.lane = lanes.lane AND ended_at IS NULL) AS oldest_s
    FROM (VALUES ('high', 1), ('normal', 2), ('low', 3)) AS lanes (lane, place) ORDER BY place
"""
# Ends of each tenant by its index: a document that came to its end, or began a stage, is work that moves.
LAST_MOVE: LiteralString = """
    SELECT extract(epoch FROM clock_timestamp() - max(moved_at))::float8 AS still_s
    FROM (
        SELECT ended.ended_at AS moved_at
        FROM (SELECT DISTINCT tenant_id FROM document_totals) AS tenants
        CROSS JOIN LATERAL (
            SELECT ended_at FROM document_jobs
            WHERE document_jobs.tenant_id = tenants.tenant_id AND ended_at IS NOT NULL
            ORDER BY ended_at DESC LIMIT 1
        ) AS ended
        UNION ALL
        SELECT max(greatest(begun_at, chunked_at, embedded_at)) FROM document_jobs WHERE ended_at IS NULL
    ) AS moves
"""
# Those that wait for a further attempt have no start that is open.
STUCK: LiteralString = """
    SELECT job_id::text AS job_id, collection, document, phase, chunks_done, chunks,
        extract(epoch FROM clock_timestamp() - greatest(begun_at, chunked_at, embedded_at))::float8 AS still_s
    FROM document_jobs
    WHERE ended_at IS NULL AND (starts > 0 OR embedded_at IS NOT NULL)
        AND greatest(begun_at, chunked_at, embedded_at) < clock_timestamp() - make_interval(secs => %(stuck)s)
    ORDER BY still_s DESC LIMIT %(shown)s
"""
FAILED: LiteralString = """
    SELECT coalesce(error ->> 'stage', '?') AS stage, coalesce(error ->> 'reason', '?') AS reason,
        count(*) AS documents, (array_agg(job_id::text ORDER BY ended_at DESC))[1] AS newest_job
    FROM (SELECT DISTINCT tenant_id FROM document_totals) AS tenants
    CROSS JOIN LATERAL (
        SELECT job_id, error, ended_at FROM document_jobs
        WHERE document_jobs.tenant_id = tenants.tenant_id AND phase = 'failed'
            AND ended_at > clock_timestamp() - make_interval(secs => %(recent)s)
        ORDER BY ended_at DESC LIMIT %(counted)s
    ) AS failed
    GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
"""
BUILDING: LiteralString = """
    SELECT tenant_id, collection, active.name AS active, next.name AS building,
        extract(epoch FROM clock_timestamp() - built_since)::float8 AS age_s,
        (SELECT count(*) FROM (SELECT FROM documents
            WHERE documents.tenant_id = document_collections.tenant_id
                AND documents.collection = document_collections.collection
                AND live_revision IS NOT NULL
                AND (building_revision IS DISTINCT FROM live_revision OR build IS DISTINCT FROM builds)
            LIMIT %(counted)s) AS missing) AS documents_missing,
        failed.documents AS documents_failed, failed.shown AS failed_documents,
        failed.documents > 0 AND NOT EXISTS (SELECT FROM document_jobs
            WHERE document_jobs.tenant_id = document_collections.tenant_id
                AND document_jobs.collection = document_collections.collection
                AND kind = 'reembed' AND ended_at IS NULL) AS is_blocked
    FROM document_collections
    CROSS JOIN LATERAL (
        SELECT count(*) AS documents, coalesce((array_agg(document ORDER BY document))[:3], '{}') AS shown
        FROM (SELECT document FROM document_jobs AS job JOIN documents USING (tenant_id, collection, document)
            WHERE job.tenant_id = document_collections.tenant_id AND job.collection = document_collections.collection
                AND kind = 'reembed' AND phase = 'failed' AND submitted_at > built_since
                AND job.revision = live_revision
                AND (building_revision IS DISTINCT FROM live_revision OR build IS DISTINCT FROM builds)
            LIMIT %(counted)s) AS found
    ) AS failed
    JOIN document_embedders AS active ON active.embedder = document_collections.embedder
    JOIN document_embedders AS next ON next.embedder = document_collections.building
    WHERE building IS NOT NULL ORDER BY tenant_id, collection LIMIT %(shown)s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """An extension that this Postgres has; version None: it is not installed in the database."""

    name: str
    version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """The documents in flight in one lane, from their submission until they are stored."""

    lane: str
    documents: int  # counted to `COUNTED_MAX`
    oldest_s: float | None  # None: nothing waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The documents in flight in each lane, and how long ago any document moved."""

    lanes: Sequence[LaneState]
    still_s: float | None  # None: none ever did


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckDocument:
    """A document that a process has begun, and that has come no further for a long time."""

    job_id: str
    collection: str
    document: str
    phase: str
    chunks_done: int | None
    chunks: int | None
    still_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """The documents that failed recently, by stage and reason."""

    stage: str
    reason: str
    documents: int
    newest_job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildingCollection:
    """A collection that is being embedded by another embedder."""

    tenant_id: str
    collection: str
    active: str
    building: str
    age_s: float | None
    documents_missing: int  # counted to `COUNTED_MAX`, those that failed included
    documents_failed: int
    failed_documents: Sequence[str]  # the first of them
    is_blocked: bool  # nothing is left but what failed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Move:
    still_s: float | None


def extensions(postgres: str) -> list[Extension]:
    """
    Return those of `EXTENSIONS` that this Postgres has.

    Raises:
        NotReachable: Postgres does not answer.
        CommandFailed: it cannot be asked; says why.
    """
    return _rows(postgres, INSTALLED, Extension)


def waiting(postgres: str) -> Waiting:
    """Return what waits. Raises as `extensions`."""
    [move] = _rows(postgres, LAST_MOVE, _Move)
    return Waiting(lanes=_rows(postgres, LANES, LaneState), still_s=move.still_s)


def stuck(postgres: str) -> list[StuckDocument]:
    """Return documents that have not come further for `STUCK_S`, `SHOWN_MAX` at most. Raises as `extensions`."""
    return _rows(postgres, STUCK, StuckDocument)


def failed(postgres: str) -> list[Failures]:
    """Return what failed within `RECENT_S`. Raises as `extensions`."""
    return _rows(postgres, FAILED, Failures)


def building(postgres: str) -> list[BuildingCollection]:
    """Return the collections that are being re-embedded. Raises as `extensions`."""
    return _rows(postgres, BUILDING, BuildingCollection)


def _rows(postgres: str, query: LiteralString, kind: type[Row]) -> list[Row]:
    asked = {
        "extensions": list(EXTENSIONS),
        "counted": COUNTED_MAX,
        "shown": SHOWN_MAX,
        "stuck": STUCK_S,
        "recent": RECENT_S,
    }
    try:
        with (
            psycopg.connect(postgres, connect_timeout=TIMEOUT_S) as session,
            session.cursor(row_factory=class_row(kind)) as cursor,
        ):
            return cursor.execute(query, asked).fetchall()
    except psycopg.errors.UndefinedTable as error:
        raise CommandFailed("the tables of documents are missing; run `tidegate migrate`") from error
    except psycopg.OperationalError as error:
        raise NotReachable(f"Postgres does not answer: {error}") from error


def of_extensions(found: Sequence[Extension]) -> Iterator[str]:
    """Yield the problems of extensions that documents need."""
    available = {each.name: each for each in found}
    for name in EXTENSIONS:
        if name not in available:
            yield f"this Postgres has no extension {name}, which documents need: use an image or package with pgvector"
        elif available[name].version is None:
            yield f"the extension {name} is not installed: run CREATE EXTENSION {name} as a superuser in this database"


def of_waiting(found: Waiting) -> Iterator[str]:
    """Yield the problem of documents that wait while no document moves."""
    if found.still_s is not None and found.still_s <= STILL_S_MAX:
        return
    for each in found.lanes:
        if each.oldest_s is not None and each.oldest_s > WAITING_S_MAX:
            yield (
                f"{_count(each.documents)} documents of lane {each.lane} wait, the oldest for {each.oldest_s:.0f} s, "
                "and none moves: see `tidegate lag`, and `tidegate logs documents-embed`"
            )


def of_stuck(found: Sequence[StuckDocument]) -> Iterator[str]:
    """Yield the problems of documents that have come no further."""
    for each in found:
        part = "" if each.chunks is None else f", {each.chunks_done or 0} of {each.chunks} chunks"
        yield (
            f"document {each.collection}/{each.document} has been {each.phase}{part} for {each.still_s:.0f} s: see "
            f"`tidegate documents status {each.job_id}`, and `tidegate documents cancel {each.job_id}`"
        )


def of_failures(found: Sequence[Failures]) -> Iterator[str]:
    """Yield the failures of the last hour as problems."""
    for each in found:
        yield (
            f"{each.documents} documents failed within an hour at {each.stage}: {each.reason}: see "
            f"`tidegate documents status {each.newest_job}`, and `tidegate documents retry` once it is mended"
        )


def of_building(found: Sequence[BuildingCollection]) -> Iterator[str]:
    """Yield the problems of re-embeddings that documents hold up which failed."""
    for each in found:
        if each.is_blocked:
            again = f"tidegate documents reembed {each.collection} --embedder {each.building}"
            yield (
                f"{each.tenant_id}/{each.collection} cannot change to {each.building}: "
                f"{_count(each.documents_failed)} documents failed ({', '.join(each.failed_documents)}): see "
                f"`tidegate documents jobs --status failed --book {each.collection}`, then try them again by "
                f"`{again}`, or do without them by `{again} --skip-failed`"
            )


def waiting_text(found: Waiting) -> str:
    """Return what waits, in words."""
    waits = [
        f"{_count(each.documents)} of lane {each.lane}, the oldest for {each.oldest_s:.0f} s"
        for each in found.lanes
        if each.oldest_s is not None
    ]
    return "; ".join(waits) or "none waits"


def building_text(found: Sequence[BuildingCollection]) -> str:
    """Return which collections are being re-embedded, in words."""
    texts = [
        f"{each.tenant_id}/{each.collection} from {each.active} to {each.building}, "
        f"{_count(each.documents_missing)} documents to do"
        + (f", {_count(each.documents_failed)} of them failed," if each.documents_failed else "")
        + ("" if each.age_s is None else f" since {each.age_s:.0f} s")
        for each in found
    ]
    return "; ".join(texts) or "none is being re-embedded"


def extensions_text(found: Sequence[Extension]) -> str:
    """Return the versions of the extensions, in words."""
    return ", ".join(f"{each.name} {each.version}" for each in found)


def _count(number: int) -> str:
    return f"{number} or more" if number == COUNTED_MAX else str(number)
