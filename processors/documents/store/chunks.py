"""
The chunks of a document in the table of an embedder: what stayed stays, and only what changed is written.

An index of vectors takes some hundred rows a second, and deleted ones keep VACUUM busy for long. So rows are matched by
the content of their chunk: one that only moved within the text keeps its row, and its vector is not indexed again.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg import AsyncCursor, sql

from processors.documents.store.vectors import HALF_BYTES, HalfVector, register
from processors.documents.versions import chunk_sha256
from processors.postgres.copying import copy_rows
from schemas.documents.records import Embedding, Span

STORED = """
    SELECT id, ordinal, start_at, end_at, sha256, heading FROM {}
    WHERE tenant_id = %s AND collection = %s AND document = %s
    ORDER BY ordinal
"""
DELETE = "DELETE FROM {} WHERE id = ANY(%s)"
MOVE = """
    UPDATE {} AS chunks SET ordinal = moved.ordinal, start_at = moved.start_at, end_at = moved.end_at
    FROM unnest(%s::bigint[], %s::integer[], %s::integer[], %s::integer[]) AS moved (id, ordinal, start_at, end_at)
    WHERE chunks.id = moved.id
"""
INSERT = """
    COPY {} (tenant_id, collection, document, ordinal, start_at, end_at, sha256, heading, text, config, vector)
    FROM STDIN (FORMAT BINARY)
"""
TYPES = ("text", "text", "text", "int4", "int4", "int4", "bytea", "text", "text", "oid", "halfvec")


class Document(NamedTuple):
    """The name of a document, and the configuration by which its words are indexed."""

    tenant: str
    collection: str
    document: str
    config_oid: int


class _Stored(NamedTuple):
    """A row that is there."""

    id: int
    ordinal: int
    start: int
    end: int


class _New(NamedTuple):
    """A chunk of the new version."""

    ordinal: int
    span: Span
    text: str
    sha256: bytes
    vector: bytes


class Difference(NamedTuple):
    """The rows to delete and to move, and the chunks to insert."""

    deleted: Sequence[int]
    moved: Sequence[tuple[int, _New]]
    inserted: Sequence[_New]


async def replace_chunks(
    cursor: AsyncCursor[Any], table: sql.Identifier, document: Document, text: str, embedding: Embedding
) -> None:
    """Let *table* have the chunks of *embedding* for a document, within the caller's transaction."""
    await cursor.execute(sql.SQL(STORED).format(table), document[:3])
    rows = await cursor.fetchall()
    found = difference(rows, new_chunks(text, embedding))
    if found.deleted:
        await cursor.execute(sql.SQL(DELETE).format(table), [list(found.deleted)])
    if found.moved:
        await cursor.execute(
            sql.SQL(MOVE).format(table),
            [
                [row_id for row_id, _ in found.moved],
                [new.ordinal for _, new in found.moved],
                [new.span.start for _, new in found.moved],
                [new.span.end for _, new in found.moved],
            ],
        )
    if found.inserted:
        await register(cursor)
        await copy_rows(
            cursor,
            sql.SQL(INSERT).format(table),
            TYPES,
            (
                (
                    *document[:3],
                    new.ordinal,
                    new.span.start,
                    new.span.end,
                    new.sha256,
                    new.span.heading,
                    new.text,
                    document.config_oid,
                    HalfVector(new.vector),
                )
                for new in found.inserted
            ),
        )


def new_chunks(text: str, embedding: Embedding) -> Sequence[_New]:
    """Return the chunks of a version."""
    size = embedding.dimensions * HALF_BYTES
    found: list[_New] = []
    for ordinal, span in enumerate(embedding.chunks):
        chunk = text[span.start : span.end]
        vector = embedding.vectors[ordinal * size : (ordinal + 1) * size]
        found.append(_New(ordinal, span, chunk, chunk_sha256(chunk), vector))
    return found


def difference(rows: Sequence[Sequence[Any]], new: Sequence[_New]) -> Difference:
    """Return what turns *rows*, as STORED returns them, into *new*; equal chunks are matched in their order."""
    there: defaultdict[tuple[bytes, str | None], deque[_Stored]] = defaultdict(deque)
    for row_id, ordinal, start, end, sha256, heading in rows:
        there[bytes(sha256), heading].append(_Stored(row_id, ordinal, start, end))
    moved: list[tuple[int, _New]] = []
    inserted: list[_New] = []
    for each in new:
        same = there.get((each.sha256, each.span.heading))
        if not same:
            inserted.append(each)
            continue
        row = same.popleft()
        if (row.ordinal, row.start, row.end) != (each.ordinal, each.span.start, each.span.end):
            moved.append((row.id, each))
    return Difference([row.id for rows in there.values() for row in rows], moved, inserted)
