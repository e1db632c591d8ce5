"""COPY of rows into a table, in binary: it costs a quarter of what text does."""

from collections.abc import Iterable, Sequence
from typing import Any, LiteralString

from psycopg import AsyncCursor
from psycopg.sql import Composed


async def copy_rows(
    cursor: AsyncCursor[Any],
    statement: LiteralString | Composed,
    types: Sequence[str],
    rows: Iterable[Sequence[object]],
) -> None:
    """Copy *rows*, whose columns are of *types*, by *statement*, within the caller's transaction."""
    async with cursor.copy(statement) as copy:
        copy.set_types(types)
        # Formatted here and sent a buffer at a time: psycopg's `write_row` is a coroutine for each row.
        for row in rows:
            if filled := copy.formatter.write_row(row):
                await copy.writer.write(filled)
