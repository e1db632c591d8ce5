"""The chunk stage by a worker of one's own: its answer as spans of the text."""

import re
from collections.abc import Sequence
from typing import Any

from processors.documents.chunking import Chunk
from schemas.documents.embedding.contract import Embedder
from schemas.documents.records import DocumentWork
from schemas.documents.workers import WorkerFailed, WorkerThread

CHUNKS_MAX = 50_000
HEADING_CHARACTERS_MAX = 1000

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class ChunkWorker:
    """A worker that cuts texts: it returns `chunks`, each a text of the document, or its start and end."""

    def __init__(self, worker: WorkerThread) -> None:
        """Cut by *worker*."""
        self._worker = worker
        self.chunker = f"worker:{worker.name}"

    async def chunks(self, work: DocumentWork, text: str, embedder: Embedder) -> Sequence[Chunk]:
        """
        Return the chunks of *text*.

        Raises:
            WorkerFailed: it failed, or a chunk is not in the text, or has more tokens than *embedder* takes.
        """
        item = {"id": work.job_id, "book_slug": work.collection, "chapter_index": work.document, "text": text}
        answer = await self._worker.call(item)
        if answer.get("id", work.job_id) != work.job_id:
            raise WorkerFailed(f"worker {self._worker.name} answered for another id than it was given")
        found = answer.get("chunks")
        if not isinstance(found, Sequence) or isinstance(found, str) or not 0 < len(found) <= CHUNKS_MAX:
            raise WorkerFailed(f"`chunks` must be a list of 1 to {CHUNKS_MAX} chunks")
        chunks, last = list[Chunk](), 0
        for number, each in enumerate(found):
            chunk = _chunk(text, each, number, last=last)
            if len(embedder.tokens(text[chunk.start : chunk.end])) > embedder.tokens_max:
                raise WorkerFailed(f"chunk {number} has more than the {embedder.tokens_max} tokens of the embedder")
            chunks.append(chunk)
            last = chunk.start
        return chunks


def _chunk(text: str, found: Any, number: int, *, last: int) -> Chunk:
    if isinstance(found, str):
        start = text.find(found, last) if found.strip() else -1
        if start < 0:
            raise WorkerFailed(f"chunk {number} is empty, or not in the text behind the one before it")
        return Chunk(start, start + len(found), "")
    if not isinstance(found, dict):
        raise WorkerFailed(f"chunk {number} is neither a text nor a dictionary with start and end")
    first, end, heading = found.get("start"), found.get("end"), found.get("heading") or ""
    if not (isinstance(first, int) and isinstance(end, int) and last <= first < end <= len(text)):
        raise WorkerFailed(f"chunk {number} has no start and end within the text, behind the start of the one before")
    if not isinstance(heading, str) or _UNSTORABLE.search(heading):
        raise WorkerFailed(f"the heading of chunk {number} must be a text without NUL and lone surrogates")
    return Chunk(first, end, heading[:HEADING_CHARACTERS_MAX])
