"""
A text as chunks with vectors, by one embedder.

Chunks are embedded a few at a time, each few in a turn of the document's lane: a long document lets the others in
between. What is computed goes to the cache every `SAVE_CHUNKS` chunks or `SAVE_S` seconds: a death costs little.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

from processors.documents.chunking import Chunk, ChunkRules, chunks_of
from processors.documents.moves import JobError
from processors.documents.versions import CHUNKER, RULES, chunk_sha256
from processors.documents.work.cutting import ChunkWorker
from processors.documents.work.turns import FairTurns
from processors.documents.work.vectors import VectorCache
from processors.runtime.failpoints import Failpoint, reach
from schemas.documents.embedding.contract import (
    Embedded,
    Embedder,
    EmbedderAway,
    EmbeddingFailed,
    FailureReason,
    TextKind,
    TokenizingFailed,
)
from schemas.documents.records import BadChunk, DocumentWork, Embedding, Span
from schemas.documents.states import Failure, Stage
from schemas.documents.workers import WorkerFailed

CHUNKS_AT_ONCE = 16  # of a turn: less than half a second by a local model
SAVE_CHUNKS = 64
SAVE_S = 1.0
CHUNKING_COST = 16  # cutting a text costs this part of embedding it
OVERLAP_SHARE = 8  # of the tokens of a small embedder's chunk

# The same text may succeed later: when the server is back, or an operator has mended its settings.
_LATER = frozenset({FailureReason.AWAY, FailureReason.CONFIGURATION})


class Failed(Exception):
    """The document cannot be embedded as it is: end its job."""

    def __init__(self, error: JobError) -> None:
        super().__init__(error.detail)
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """The counters of a worker."""

    cached: Callable[[int], None]
    computed: Callable[[int], None]
    busy: Callable[[Stage, float], None]  # the seconds of a document in a stage


class _Missing(NamedTuple):
    """A text whose vector is not in the cache, and the first chunk that has it."""

    digest: bytes
    text: str
    chunk: int


class _Progress:
    """The vectors of one text so far, and what of them is not in the cache yet."""

    def __init__(self, digests: Sequence[bytes], found: dict[bytes, bytes]) -> None:
        self.vectors = found
        self.unsaved: dict[bytes, bytes] = {}
        self.failures: dict[bytes, EmbeddingFailed] = {}
        self._digests = digests
        self._saved_at_s = monotonic()

    def add(self, digest: bytes, vector: bytes) -> None:
        self.vectors[digest] = self.unsaved[digest] = vector

    def is_due(self) -> bool:
        """Return True if it is time to save."""
        return len(self.unsaved) >= SAVE_CHUNKS or monotonic() - self._saved_at_s >= SAVE_S

    def saved(self) -> None:
        self.unsaved = {}
        self._saved_at_s = monotonic()

    def done(self) -> int:
        """Return how many chunks have vectors."""
        return sum(digest in self.vectors for digest in self._digests)


class ChunkEmbedder:
    """The chunk and embed stages of a worker."""

    def __init__(
        self, cache: VectorCache, turns: FairTurns, counters: Counters, *, cutter: ChunkWorker | None = None
    ) -> None:
        """Take turns of *turns*, and keep what is computed in *cache*; a *cutter* cuts texts in place of our rules."""
        self._cutter = cutter
        self._cache = cache
        self._turns = turns
        self._counters = counters

    async def chunks(self, work: DocumentWork, text: str, embedder: Embedder, *, is_markdown: bool) -> Sequence[Chunk]:
        """
        Return the chunks of *text* by the tokens of *embedder*, cut on a thread.

        Raises:
            Failed: a custom embedder cannot split it into tokens, or a worker cannot cut it.
        """
        async with self._turns.turn(work.lane, len(text) // CHUNKING_COST):
            began_s = monotonic()
            try:
                found = (
                    await self._cutter.chunks(work, text, embedder)
                    if self._cutter is not None
                    else await asyncio.to_thread(
                        chunks_of, text, tokens=embedder.tokens, rules=_rules(embedder), is_markdown=is_markdown
                    )
                )
            except (TokenizingFailed, WorkerFailed) as error:
                raise Failed(JobError(stage=Stage.CHUNK, reason=Failure.WORKER_FAILED, detail=str(error))) from error
            self._counters.busy(Stage.CHUNK, monotonic() - began_s)
        return found

    async def embed(
        self, work: DocumentWork, text: str, chunks: Sequence[Chunk], embedder: Embedder, *, skips_bad: bool
    ) -> Embedding:
        """
        Return the chunks of *text* with their vectors; with *skips_bad* without those that cannot be embedded.

        Raises:
            Failed: a chunk cannot be embedded, or with *skips_bad* none can.
            EmbedderAway: try again later; what is done is in the cache.
            Transient: Postgres is away.
        """
        texts = [text[chunk.start : chunk.end] for chunk in chunks]
        digests = [chunk_sha256(each) for each in texts]
        progress = _Progress(digests, await self._cache.find(work.tenant, embedder.id, digests))
        self._counters.cached(progress.done())
        missing = list(
            {
                digest: _Missing(digest, each, chunk)
                for chunk, (digest, each) in reversed(list(enumerate(zip(digests, texts, strict=True))))
                if digest not in progress.vectors
            }.values()
        )[::-1]
        busy_s = 0.0
        try:
            for start in range(0, len(missing), CHUNKS_AT_ONCE):
                busy_s += await self._embed(
                    work, missing[start : start + CHUNKS_AT_ONCE], embedder, progress, skips_bad=skips_bad
                )
                if progress.is_due():
                    await self._save(work, embedder, progress)
        finally:
            if progress.unsaved or not missing:
                await self._save(work, embedder, progress)
        if missing:
            self._counters.busy(Stage.EMBED, busy_s)
        chunker = CHUNKER if self._cutter is None else self._cutter.chunker
        return _embedding(chunks, digests, embedder, progress, chunker=chunker)

    async def _embed(
        self,
        work: DocumentWork,
        missing: Sequence[_Missing],
        embedder: Embedder,
        progress: _Progress,
        *,
        skips_bad: bool,
    ) -> float:
        """Embed a few texts in one turn; return how long it took."""
        async with self._turns.turn(work.lane, sum(len(each.text) for each in missing)):
            began_s = monotonic()
            answers: Sequence[Embedded] = await embedder.embed([each.text for each in missing], kind=TextKind.PASSAGE)
            busy_s = monotonic() - began_s
        later: EmbeddingFailed | None = None
        for each, answer in zip(missing, answers, strict=True):
            if not isinstance(answer, EmbeddingFailed):
                progress.add(each.digest, answer.astype("<f2").tobytes())
                self._counters.computed(1)
            elif answer.reason in _LATER or answer.is_retryable:
                later = answer
            elif skips_bad:
                progress.failures[each.digest] = answer
            else:
                detail = f"{answer.reason}: {answer.detail}"
                raise Failed(JobError(stage=Stage.EMBED, reason=Failure.BAD_CHUNK, detail=detail, chunk=each.chunk))
        if later is not None:
            raise EmbedderAway(later.detail)
        return busy_s

    async def _save(self, work: DocumentWork, embedder: Embedder, progress: _Progress) -> None:
        await self._cache.keep(work, embedder.id, progress.unsaved, done=progress.done())
        reach(Failpoint.AFTER_CACHED)
        progress.saved()


def _rules(embedder: Embedder) -> ChunkRules:
    if embedder.tokens_max >= RULES.tokens_max:
        return RULES
    return ChunkRules(
        tokens_max=embedder.tokens_max,
        overlap_tokens=embedder.tokens_max // OVERLAP_SHARE,
        characters_max=RULES.characters_max,
    )


def _embedding(
    chunks: Sequence[Chunk], digests: Sequence[bytes], embedder: Embedder, progress: _Progress, *, chunker: str
) -> Embedding:
    vectors, failures = progress.vectors, progress.failures
    kept = [(chunk, vectors[digest]) for chunk, digest in zip(chunks, digests, strict=True) if digest in vectors]
    if not kept:
        detail = "no chunk could be embedded: " + next(iter(failures.values())).detail
        raise Failed(JobError(stage=Stage.EMBED, reason=Failure.BAD_CHUNK, detail=detail, chunk=0))
    return Embedding(
        embedder=embedder.id,
        chunker=chunker,
        dimensions=embedder.dimensions,
        chunks=[Span(start=chunk.start, end=chunk.end, heading=chunk.heading or None) for chunk, _ in kept],
        vectors=b"".join(vector for _, vector in kept),
        missing=[
            BadChunk(chunk=number, start=chunk.start, end=chunk.end, reason=failures[digest].reason)
            for number, (chunk, digest) in enumerate(zip(chunks, digests, strict=True))
            if digest in failures
        ],
    )
