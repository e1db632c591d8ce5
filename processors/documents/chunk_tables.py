"""The embedders that the tables know of, and the table of the chunks of each."""

from typing import Any

from psycopg import AsyncCursor, sql

EMBEDDERS = "SELECT embedder, chunks, dimensions FROM document_embedders"
NEWEST_NAMED = "SELECT embedder FROM document_embedders WHERE name = %s ORDER BY seen_at DESC LIMIT 1"
DELETE_CHUNKS = "DELETE FROM {} WHERE tenant_id = %s AND collection = %s AND document = ANY(%s)"


async def chunk_tables(cursor: AsyncCursor[Any]) -> dict[str, sql.Identifier]:
    """Return the table of each embedder's chunks, by the embedder's id."""
    await cursor.execute(EMBEDDERS)
    return {embedder: sql.Identifier(chunks) for embedder, chunks, _ in await cursor.fetchall()}


async def newest_named(cursor: AsyncCursor[Any], name: str) -> str | None:
    """Return the id of the embedder with which a process last started under *name*; None if none has."""
    await cursor.execute(NEWEST_NAMED, (name,))
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


async def delete_chunks(cursor: AsyncCursor[Any], tenant: str, collection: str, documents: list[str]) -> None:
    """Delete the chunks of *documents* by every embedder: of the active one, of the next, and of any before."""
    for table in (await chunk_tables(cursor)).values():
        await cursor.execute(sql.SQL(DELETE_CHUNKS).format(table), (tenant, collection, documents))
