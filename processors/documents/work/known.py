"""The embedders of this process in the tables: each has its row, its table of chunks, and vectors to compare with."""

from collections.abc import Sequence

import structlog

from processors.postgres.writes import PostgresWrites
from processors.runtime.errors import Unsettled
from schemas.documents.embedding.contract import Embedder, EmbedderAway
from schemas.documents.embedding.fingerprints import agrees, fingerprint

CANONICAL = "SELECT canonical FROM document_embedders WHERE embedder = %s"
ADD = "SELECT add_document_embedder(%s, %s, %s, %s)"

log = structlog.get_logger()


class KnownEmbedders:
    """The embedders of a process, made known one by one: one that is away at first is asked again."""

    def __init__(self, writes: PostgresWrites, embedders: Sequence[Embedder]) -> None:
        """Write by the connections of *writes*."""
        self._writes = writes
        self._unknown = list(embedders)
        self._away: set[str] = set()  # ids of those that a log line has been written for

    @property
    def away(self) -> int:
        """Return how many have not answered yet: their books wait."""
        return len(self._unknown)

    async def go_on(self) -> bool:
        """
        Add what is new to the tables, and compare the vectors of the others with those that are stored.

        Return False, as there is no more to do at once.

        Raises:
            Transient: Postgres is away.
            Unsettled: an embedder gives other vectors than those that are stored; the text says what to do.
        """
        for embedder in tuple(self._unknown):
            try:
                found = await fingerprint(embedder)
            except EmbedderAway as away:
                # A remote one: it must not keep the others from their work.
                if embedder.id not in self._away:
                    log.warning("embedder is away, not compared", embedder=embedder.name, error=str(away))
                self._away.add(embedder.id)
                continue
            await _make_known(self._writes, embedder, found)
            self._unknown.remove(embedder)
            if embedder.id in self._away:
                log.warning("embedder has answered", embedder=embedder.name)
        return False


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
