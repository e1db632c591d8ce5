"""
The cache of vectors, by tenant, embedder and the content of a chunk.

An attempt that died, an edited document and one that is sent a second time find their vectors here. The tenant is part
of the key, so that no tenant can tell by time what another one has.
"""

from collections.abc import Mapping, Sequence

from processors.documents.work.journal import note_progress
from processors.postgres.writes import PostgresWrites
from schemas.documents.records import DocumentWork

FIND = """
    SELECT sha256, vector FROM document_vectors WHERE tenant_id = %s AND embedder = %s AND sha256 = ANY(%s)
"""
TOUCH = """
    UPDATE document_vectors SET used_at = clock_timestamp()
    WHERE tenant_id = %s AND embedder = %s AND sha256 = ANY(%s) AND used_at < clock_timestamp() - interval '1 day'
"""
# In one order for all, so that no two transactions wait for each other.
KEEP = """
    INSERT INTO document_vectors (tenant_id, embedder, sha256, vector)
    SELECT %s, %s, sha256, vector FROM unnest(%s::bytea[], %s::bytea[]) AS new (sha256, vector) ORDER BY sha256
    ON CONFLICT DO NOTHING
"""


class VectorCache:
    """The cache, as a worker uses it; each method raises Transient while Postgres is away."""

    def __init__(self, writes: PostgresWrites) -> None:
        """Read and write by the connections of *writes*."""
        self._writes = writes

    async def find(self, tenant: str, embedder: str, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the vectors that are kept, as float16 in little-endian, by the digest of their text."""
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await cursor.execute(FIND, (tenant, embedder, list(digests)))
            found = {bytes(sha256): bytes(vector) for sha256, vector in await cursor.fetchall()}
            if found:
                await cursor.execute(TOUCH, (tenant, embedder, list(found)))
        return found

    async def keep(self, work: DocumentWork, embedder: str, vectors: Mapping[bytes, bytes], *, done: int) -> None:
        """Keep *vectors* by the digest of their text, and note that *done* chunks of the job have one."""
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            if vectors:
                await cursor.execute(KEEP, (work.tenant, embedder, list(vectors), list(vectors.values())))
            await note_progress(cursor, work, done)
