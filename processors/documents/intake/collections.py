"""The collections of a slice, locked in one order before any document, and made where they are new."""

from collections.abc import Iterable
from typing import Any

from psycopg import AsyncCursor

from processors.documents.chunk_tables import newest_named
from processors.runtime.errors import Transient
from schemas.documents.records import Command, PutDocument, ReembedCollection

# Against a change of their embedders, which a Put names.
SHARE = "SELECT FROM document_collections WHERE tenant_id = %s AND collection = %s FOR SHARE"
LOCK = "SELECT FROM document_collections WHERE tenant_id = %s AND collection = %s FOR UPDATE"
ADD = "INSERT INTO document_collections (tenant_id, collection, embedder) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"


async def lock_collections(cursor: AsyncCursor[Any], commands: Iterable[Command], *, embedder_name: str) -> None:
    """
    Lock the collections that *commands* put documents into or change; new ones get the embedder of that name.

    Raises:
        Transient: no process has added the embedder yet.
    """
    put, changed = set[tuple[str, str]](), set[tuple[str, str]]()
    for command in commands:
        if isinstance(command, PutDocument):
            put.add((command.tenant, command.collection))
        elif isinstance(command, ReembedCollection):
            changed.add((command.tenant, command.collection))
    for place in sorted(put | changed):
        statement = LOCK if place in changed else SHARE
        await cursor.execute(statement, place)
        if place in put and not cursor.rowcount:
            embedder = await newest_named(cursor, embedder_name)
            if embedder is None:
                raise Transient(f"no documents-embed process with the embedder {embedder_name} has started yet")
            await cursor.execute(ADD, (*place, embedder))
            await cursor.execute(statement, place)  # another process may have made it
