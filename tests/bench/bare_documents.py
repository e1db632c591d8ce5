"""
The baseline of documents: chunk, embed and COPY, one process and nothing that makes it safe.

The same chunker, embedder and rows as the groups of documents have, a transaction a document; no log, no jobs, no
cache. Takes the DSN, the name of an embedder, a file of texts and the model; prints the seconds, the chunks and the
processor's seconds.
"""

import asyncio
import sys
from pathlib import Path
from time import perf_counter, process_time

import msgspec
import numpy as np
import psycopg
from psycopg import sql

from processors.documents.chunking import chunks_of
from processors.documents.store.chunks import TYPES
from processors.documents.store.vectors import HalfVector, register
from processors.documents.versions import RULES, chunk_sha256
from processors.postgres.copying import copy_rows
from schemas.documents.embedding.config import EmbedderNames, EmbeddingSettings, OpenAiSettings
from schemas.documents.embedding.contract import Embedder, TextKind
from schemas.documents.embedding.loading import open_embedders
from schemas.process.settings import SettingsInvalid
from tests.bench.document_stack import Text

COPY = """
    COPY {} (tenant_id, collection, document, ordinal, start_at, end_at, sha256, heading, text, config, vector)
    FROM STDIN (FORMAT BINARY)
"""
CONFIG = "SELECT 'english'::regconfig::oid::bigint"


async def store_all(dsn: str, embedder: Embedder, texts: list[Text]) -> tuple[float, int, float]:
    """Store *texts* in the bare table; return what is printed."""
    table = sql.Identifier(f"bare_{embedder.name}")
    stored = 0
    async with await psycopg.AsyncConnection.connect(dsn) as session, session.cursor() as cursor:
        await register(cursor)
        [config] = await (await cursor.execute(CONFIG)).fetchone() or (0,)
        await embedder.embed(["what is loaded at the first text"], kind=TextKind.PASSAGE)
        began_s, began_cpu_s = perf_counter(), process_time()
        for each in texts:
            chunks = chunks_of(each.text, tokens=embedder.tokens, rules=RULES, is_markdown=False)
            cut = [each.text[chunk.start : chunk.end] for chunk in chunks]
            vectors = await embedder.embed(cut, kind=TextKind.PASSAGE)
            rows = (
                (
                    *("demo", each.collection, each.document, ordinal, chunk.start, chunk.end),
                    *(chunk_sha256(text), chunk.heading or None, text, config),
                    HalfVector(np.asarray(vector).astype("<f2").tobytes()),
                )
                for ordinal, (chunk, text, vector) in enumerate(zip(chunks, cut, vectors, strict=True))
            )
            await copy_rows(cursor, sql.SQL(COPY).format(table), TYPES, rows)
            await session.commit()
            stored += len(chunks)
        return perf_counter() - began_s, stored, process_time() - began_cpu_s


async def main(dsn: str, name: str, texts: list[Text], jar: str) -> None:
    """Load the embedder, store *texts* and print what it took."""
    settings = EmbeddingSettings(
        openai=OpenAiSettings(),
        named=EmbedderNames(embedders=name),
        minilm_jar=Path(jar) if jar else None,
        threads=1,
    )
    async with open_embedders(settings) as embedders:
        print(*await store_all(dsn, embedders.default, texts))


if __name__ == "__main__":
    given = msgspec.json.decode(Path(sys.argv[3]).read_bytes(), type=list[Text])
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2], given, sys.argv[4]))
    except SettingsInvalid as error:
        sys.exit(str(error))
