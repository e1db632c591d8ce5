"""
The peer of documents: LlamaIndex's ingestion pipeline, put together as its guides say.

Splitter, embedder, pgvector store and a document store in the same Postgres, with the strategy that updates what has
changed. The model is ours, as its embedding class, and chunks are as long as ours. Run in an environment of its own;
see `document_peer`.

    llama_documents.py run FILE AT_ONCE     # store the texts, so many in a call of the pipeline; 0: all in one
    llama_documents.py run FILE AT_ONCE N   # the same, and say so when N chunks have been embedded
    llama_documents.py expect FILE          # print the chunks that they come to
"""

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import perf_counter, process_time
from typing import Any

from llama_index.core import Document
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.storage.docstore.postgres import PostgresDocumentStore
from llama_index.storage.kvstore.postgres import PostgresKVStore
from llama_index.vector_stores.postgres import PGVectorStore
from pydantic import PrivateAttr

from schemas.documents.embedding.minilm import DIMENSIONS, MiniLmEmbedder

TABLE = "chunks"
CHUNK_TOKENS, OVERLAP_TOKENS = 200, 30
HNSW = {"hnsw_m": 16, "hnsw_ef_construction": 64, "hnsw_ef_search": 100, "hnsw_dist_method": "halfvec_ip_ops"}


class MiniLm(BaseEmbedding):
    """Our session as an embedding class: the same vectors, one text a run."""

    _embedder: MiniLmEmbedder = PrivateAttr()
    _left: int = PrivateAttr(default=0)

    def __init__(self, embedder: MiniLmEmbedder) -> None:
        super().__init__(model_name=embedder.name)
        self._embedder = embedder

    def announce(self, chunks: int) -> None:
        """Print a line when so many *chunks* have been embedded from now on."""
        self._left = chunks

    def _get_text_embedding(self, text: str) -> list[float]:
        self._left -= 1
        if self._left == 0:
            print("embedded", flush=True)
        # Past the queue of calls, which is for many at a time: nothing is between the pipeline and the session.
        return self._embedder._run(text).tolist()

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def splitter(embedder: MiniLmEmbedder) -> SentenceSplitter:
    """Return the splitter, which counts tokens as the model does."""
    return SentenceSplitter(
        chunk_size=CHUNK_TOKENS, chunk_overlap=OVERLAP_TOKENS, tokenizer=lambda text: list(embedder.tokens(text))
    )


def pipeline(embedding: MiniLm, embedder: MiniLmEmbedder, postgres: str) -> IngestionPipeline:
    """Return the pipeline, with its tables."""
    address = postgres.partition("://")[2]
    return IngestionPipeline(
        transformations=[splitter(embedder), embedding],
        # Its own `from_uri` passes an argument that the newest key-value store does not know.
        docstore=PostgresDocumentStore(PostgresKVStore.from_uri(postgres, table_name="docstore")),
        docstore_strategy=DocstoreStrategy.UPSERTS,
        vector_store=PGVectorStore.from_params(
            connection_string=f"postgresql+psycopg2://{address}",
            async_connection_string=f"postgresql+asyncpg://{address}",
            table_name=TABLE,
            embed_dim=DIMENSIONS,
            hybrid_search=True,
            text_search_config="english",
            hnsw_kwargs=HNSW,
            use_halfvec=True,
        ),
    )


def documents(file: Path) -> list[Document]:
    """Return the texts of *file*, each with the id by which it is updated."""
    return [
        Document(text=each["text"], id_=f"{each['collection']}/{each['document']}")
        for each in json.loads(file.read_text())
    ]


def run(embedder: MiniLmEmbedder, file: Path, at_once: int, announced_at: int = 0) -> dict[str, Any]:
    """Store the texts of *file*; return the seconds, and how many chunks were embedded."""
    embedding = MiniLm(embedder)
    ready = pipeline(embedding, embedder, os.environ["PEER_POSTGRES"])
    embedding.get_text_embedding("what is loaded at the first text")
    ready.run(documents=[Document(text="what is connected at the first text", id_="first")])
    texts = documents(file)
    embedding.announce(announced_at)
    began_s, began_cpu_s, chunks = perf_counter(), process_time(), 0
    step = at_once or max(1, len(texts))
    for start in range(0, len(texts), step):
        chunks += len(ready.run(documents=texts[start : start + step]))
    packages = ("llama-index-core", "llama-index-vector-stores-postgres", "llama-index-storage-docstore-postgres")
    return {
        "seconds": perf_counter() - began_s,
        "cpu_s": process_time() - began_cpu_s,
        "rss_mib": getrusage(RUSAGE_SELF).ru_maxrss / 1024,
        "chunks": chunks,
        "versions": {package: version(package) for package in packages},
    }


def expect(embedder: MiniLmEmbedder, file: Path) -> dict[str, list[str]]:
    """Return the chunks of each document of *file*."""
    cut = splitter(embedder)
    return {each.id_: [node.get_content() for node in cut([each])] for each in documents(file)}


def main() -> None:
    """Do what the command line names, and print what comes of it as JSON."""
    embedder = MiniLmEmbedder(Path(os.environ["PEER_JAR"]), threads=1)
    command, file, *numbers = sys.argv[1:]
    found = (
        expect(embedder, Path(file))
        if command == "expect"
        else run(embedder, Path(file), *(int(each) for each in numbers))
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
