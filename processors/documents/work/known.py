"""The embedders of this process in the tables: each has its row, its table of chunks, and vectors to compare with."""

import structlog

from processors.postgres.writes import PostgresWrites
from processors.runtime.errors import Unsettled
from schemas.documents.embedding.contract import Embedder, EmbedderAway
from schemas.documents.embedding.fingerprints import agrees, fingerprint
from schemas.documents.embedding.loading import Embedders

CANONICAL = "SELECT canonical FROM document_embedders WHERE embedder = %s"
ADD = "SELECT add_document_embedder(%s, %s, %s, %s)"

log = structlog.get_logger()


async def make_known(writes: PostgresWrites, embedders: Embedders) -> None:
    """
    Add what is new among *embedders* to the tables, and compare the vectors of the others with those that are stored.

    Raises:
        Transient: Postgres is away.
        Unsettled: an embedder gives other vectors than those that are stored; the text says what to do.
    """
    for embedder in embedders.all:
        try:
            found = await fingerprint(embedder)
        except EmbedderAway as away:
            # A remote one: it must not keep the others from their work.
            log.warning("embedder is away, not compared", embedder=embedder.name, error=str(away))
            continue
        await _make_known(writes, embedder, found)


async def _make_known(writes: PostgresWrites, embedder: Embedder, found: bytes) -> None:
    async with writes.transaction() as (connection, _), connection.cursor() as cursor:
        await cursor.execute(ADD, (embedder.id, embedder.name, embedder.dimensions, found))
        await cursor.execute(CANONICAL, (embedder.id,))
        row = await cursor.fetchone()
    assert row is not None
    if not agrees(bytes(row[0]), found):
        raise Unsettled(
            f"embedder {embedder.name} gives other vectors here than where it was added ({embedder.id[:12]}): "
            "this machine computes it otherwise; run documents-embed on one like the others, or delete the row of "
            "document_embedders and embed the collections again"
        )
