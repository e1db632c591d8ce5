"""`SearchStore` on Postgres with pgvector: each leg is a transaction of its own, and bounded in time by Postgres."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any, LiteralString

import psycopg
import structlog
from psycopg import sql

from gateway.documents.parsing.filters import Filter
from gateway.documents.search import statements
from gateway.documents.search.filter_sql import condition
from gateway.documents.search.legs import (
    CANDIDATES_MAX,
    COLLECTIONS_MAX,
    EXACT_CHUNKS_MAX,
    LEG_TIMEOUT_MS,
    ChunkRow,
    Found,
    LegAnswer,
    LegFailed,
    Scope,
)
from gateway.errors import StoreUnavailable
from gateway.postgres.pool import Connection, PostgresReads
from schemas.errors import Fault, Invalid

LEXEMES_MAX = 64
NO_VECTORS = "the extension pgvector is not installed in Postgres: documents cannot be searched"

log = structlog.get_logger()


class PostgresSearchStore:
    """`SearchStore` on read-only connections."""

    def __init__(
        self,
        reads: PostgresReads,
        *,
        leg_timeout_ms: int = LEG_TIMEOUT_MS,
        exact_chunks_max: int = EXACT_CHUNKS_MAX,
    ) -> None:
        """Read by the connections of *reads*; scopes of up to *exact_chunks_max* are searched exactly."""
        self._reads = reads
        self._leg_timeout_ms = leg_timeout_ms
        self._exact_chunks_max = exact_chunks_max

    async def scopes(self, tenant: str, collections: Sequence[str] | None) -> Sequence[Scope]:
        """See `SearchStore.scopes`."""
        asked = {
            "tenant": tenant,
            "collections": None if collections is None else list(collections),
            "limit": COLLECTIONS_MAX + 1,
        }
        async with self._reads.connection() as connection:
            rows = await (await connection.execute(statements.SCOPES, asked)).fetchall()
        if not rows[0]["has_vectors"]:
            raise StoreUnavailable(NO_VECTORS)
        found = [row for row in rows if row["collection"] is not None]
        if len(found) > COLLECTIONS_MAX:
            detail = f"the tenant has more than {COLLECTIONS_MAX} collections: name those to search"
            raise Invalid([Fault(pointer="/collections", detail=detail)])
        return _scopes(found)

    async def nearest(self, tenant: str, scope: Scope, vector: Sequence[float], admitted: Filter | None) -> LegAnswer:
        """See `SearchStore.nearest`."""
        if len(vector) != scope.dimensions:
            raise LegFailed(f"the embedder {scope.name} gave {len(vector)} dimensions, not {scope.dimensions}")
        asked = {
            "tenant": tenant,
            "collections": list(scope.collections),
            "vector": f"[{','.join(map(repr, map(float, vector)))}]",
            "candidates": CANDIDATES_MAX,
            "limit": self._exact_chunks_max + 1,
        }
        async with self._leg("vector") as connection:
            count = statements.SCOPE_CHUNKS if admitted is None else statements.FILTERED_CHUNKS
            [counted] = await _rows(connection, count, scope, asked, admitted)
            if counted["count"] <= self._exact_chunks_max:
                exact = statements.EXACT if admitted is None else statements.EXACT_OF_FILTERED
                return LegAnswer(found=_found(await _rows(connection, exact, scope, asked, admitted)))
            await _set_scan(connection)
            found = _found(await _rows(connection, statements.NEAREST, scope, asked, admitted))
        return LegAnswer(found=found, complete=len(found) == CANDIDATES_MAX)

    async def matching(self, tenant: str, scope: Scope, query: str, admitted: Filter | None) -> Sequence[LegAnswer]:
        """See `SearchStore.matching`."""
        answers: list[LegAnswer] = []
        async with self._leg("text") as connection:
            for config, collections in scope.by_config.items():
                words = {"config": config, "query": query, "lexemes": LEXEMES_MAX}
                row = await (await connection.execute(statements.QUERY_WORDS, words)).fetchone()
                if row is None or row["words"] is None:  # stop words alone
                    continue
                asked = {
                    "tenant": tenant,
                    "collections": list(collections),
                    "words": row["words"],
                    "candidates": CANDIDATES_MAX,
                }
                found = _found(await _rows(connection, statements.MATCHING, scope, asked, admitted))
                answers.append(LegAnswer(found=found))
        return answers

    async def rows(self, tenant: str, scope: Scope, chunk_ids: Sequence[int]) -> Mapping[int, ChunkRow]:
        """See `SearchStore.rows`."""
        asked = {"tenant": tenant, "chunk_ids": list(chunk_ids)}
        statement = sql.SQL(statements.ROWS).format(
            chunks=sql.Identifier(scope.chunks), filtered=sql.SQL(statements.FILTERED)
        )
        async with self._leg("rows") as connection:
            found = await (await connection.execute(statement, asked)).fetchall()
        return {
            row["id"]: ChunkRow(
                ordinal=row["ordinal"],
                start=row["start_at"],
                end=row["end_at"],
                heading=row["heading"],
                text=row["text"],
                revision=row["revision"],
                metadata=row["metadata"],
            )
            for row in found
        }

    @asynccontextmanager
    async def _leg(self, name: str) -> AsyncIterator[Connection]:
        async with self._reads.connection() as connection:
            try:
                async with connection.transaction():
                    timeout = (str(self._leg_timeout_ms),)
                    await connection.execute("SELECT set_config('statement_timeout', %s, true)", timeout)
                    yield connection
            except psycopg.errors.QueryCanceled as error:
                raise LegFailed(f"took longer than {self._leg_timeout_ms / 1000:g} s") from error
            except (psycopg.DataError, psycopg.ProgrammingError) as error:
                # A table that was dropped a moment ago, or a right that is missing: the other leg may do.
                log.warning("search leg failed", leg=name, error=str(error))
                raise LegFailed("Postgres refused its statement") from error


async def _rows(
    connection: Connection,
    statement: LiteralString,
    scope: Scope,
    asked: Mapping[str, Any],
    admitted: Filter | None,
) -> Sequence[dict[str, Any]]:
    joined, conditions, parameters = sql.SQL(""), sql.Composed([]), dict[str, Any]()
    if admitted is not None:
        condition_sql, parameters = condition(admitted)
        joined, conditions = sql.SQL(statements.FILTERED), sql.SQL(" AND ") + condition_sql
    composed = sql.SQL(statement).format(chunks=sql.Identifier(scope.chunks), filtered=joined, admitted=conditions)
    return await (await connection.execute(composed, {**asked, **parameters})).fetchall()


async def _set_scan(connection: Connection) -> None:
    await connection.execute(statements.LOAD_VECTORS)
    await connection.execute(statements.SET_SCAN)
    if (found := await (await connection.execute(statements.SCAN)).fetchone()) != statements.SCAN_EXPECTED:
        raise LegFailed(f"pgvector did not take the settings of a scan: it has {found}")


def _found(rows: Sequence[Mapping[str, Any]]) -> Sequence[Found]:
    return [
        Found(chunk_id=row["id"], collection=row["collection"], document=row["document"], score=row["score"])
        for row in rows
    ]


def _scopes(rows: Sequence[Mapping[str, Any]]) -> Sequence[Scope]:
    scopes: list[Scope] = []
    for embedder, of_embedder in groupby(sorted(rows, key=lambda row: row["embedder"]), lambda row: row["embedder"]):
        members = list(of_embedder)
        by_config: dict[str, list[str]] = {}
        for row in members:
            by_config.setdefault(row["config"], []).append(row["collection"])
        scopes.append(
            Scope(
                embedder=embedder,
                name=members[0]["name"],
                dimensions=members[0]["dimensions"],
                chunks=members[0]["chunks"],
                by_config=by_config,
            )
        )
    return scopes
