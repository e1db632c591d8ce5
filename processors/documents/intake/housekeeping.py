"""The removal of what time makes needless: texts of failed jobs, and vectors in the cache that nothing asks for."""

from processors.postgres.writes import PostgresWrites

ROWS_AT_ONCE = 1000

# Arrays, since Postgres would read the whole table to join it with the few rows that are past their days.
# Of a job that can no longer be tried again; the text of a live version stays.
DROP_TEXTS = """
    DELETE FROM document_texts WHERE job_id = ANY(ARRAY(
        SELECT job_id FROM document_jobs
        WHERE phase IN ('failed', 'cancelled') AND ended_at < clock_timestamp() - make_interval(days => %s)
            AND EXISTS (SELECT FROM document_texts WHERE document_texts.job_id = document_jobs.job_id)
        LIMIT %s
    ))
"""
DROP_VECTORS = """
    DELETE FROM document_vectors WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM document_vectors
        WHERE used_at < now() - make_interval(days => %s) ORDER BY used_at LIMIT %s
    ))
"""


class DocumentHousekeeping:
    """The removal of what is past its days."""

    def __init__(self, writes: PostgresWrites, *, texts_days: int, vectors_days: int) -> None:
        """Delete by the connections of *writes*."""
        self._writes = writes
        self._texts_days = texts_days
        self._vectors_days = vectors_days

    async def go_on(self) -> bool:
        """Delete a part; return True if there may be more. Raises Transient: Postgres is away."""
        async with self._writes.transaction() as (connection, goes_on), connection.cursor() as cursor:
            await cursor.execute(DROP_TEXTS, (self._texts_days, ROWS_AT_ONCE))
            texts = cursor.rowcount
            goes_on()
            await cursor.execute(DROP_VECTORS, (self._vectors_days, ROWS_AT_ONCE))
            return ROWS_AT_ONCE in (texts, cursor.rowcount)
