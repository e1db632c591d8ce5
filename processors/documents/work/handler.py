"""
Work as embedded versions in document.embedded: read, cut, embed, written, and only then noted as done.

What goes wrong with a document is its own affair: the others of its slice go on.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import structlog

from processors.documents.moves import JobError
from processors.documents.work.downstream import Downstream
from processors.documents.work.embedding import ChunkEmbedder, Failed
from processors.documents.work.files import Files, FileText
from processors.documents.work.isolation import Isolation
from processors.documents.work.journal import DEATHS_MAX, Begun, Journal, Look
from processors.runtime.contract import Arrival, FailedRecord, Outcome, Settled, Tally
from processors.runtime.dead_letters import LogWriter
from processors.runtime.errors import RecordRefused, Transient
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.sealing import sealed_record
from schemas.access.credentials import CurrentCredentials
from schemas.documents.codec import EMBEDDED_CODEC
from schemas.documents.embedding.contract import Embedder, EmbedderAway
from schemas.documents.embedding.loading import Embedders
from schemas.documents.records import DocumentEmbedded, DocumentWork, key_of
from schemas.documents.states import Failure, JobKind, Lane, Phase, Stage
from schemas.documents.topics import EMBED, EMBEDDED_DOCUMENTS
from schemas.errors import Poison, Reason

log = structlog.get_logger()

Ended = Callable[[Phase, JobError | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The stages of a worker, and what they share."""

    journal: Journal
    files: Files
    chunks: ChunkEmbedder
    embedders: Embedders
    downstream: Downstream
    embedded: LogWriter
    credentials: CurrentCredentials
    ended: Ended  # counts the end of a job


class WorkHandler:
    """`Handler` of the group documents.embed."""

    def __init__(self, stages: Stages, *, documents_max: int) -> None:
        """Have at most *documents_max* documents of a lane in work at once."""
        self._stages = stages
        self._isolation = Isolation()
        self._owed: set[tuple[str, int]] = set()  # starts, by job and generation, that could not be given back
        # Texts are read when a document has its place here: what waits is small.
        self._places: defaultdict[Lane, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(documents_max))

    async def handle(self, arrivals: Sequence[Arrival[DocumentWork]]) -> Settled[DocumentWork]:
        """Work the documents of a slice, several at once; see `Handler`."""
        tally, later, dead = Tally(), list[FailedRecord[DocumentWork]](), list[FailedRecord[DocumentWork]]()
        results = await asyncio.gather(*(self._one(arrival) for arrival in arrivals), return_exceptions=True)
        _raise_worst(results)
        for result in results:
            match result:
                case Outcome() as outcome:
                    tally[outcome, None] += 1
                case FailedRecord(reason=Reason.CRASHED) as failed:
                    dead.append(failed)
                case FailedRecord() as failed:
                    later.append(failed)
        return Settled(tally, later, dead)

    async def _one(self, arrival: Arrival[DocumentWork]) -> Outcome | FailedRecord[DocumentWork]:
        work = arrival.record
        if arrival.rejection is not None:
            return FailedRecord(arrival, arrival.rejection.reason, arrival.rejection.detail)
        async with self._places[work.lane]:
            await self._stages.downstream.room()
            await self._settle_owed(work)
            look = await self._stages.journal.look(work)
            if look is None:
                return Outcome.FILTERED
            if arrival.raw.attempt:
                work = await self._sent_back(work, look, is_deferred=arrival.raw.tier > 0)
            elif look.has_ended or look.is_embedded or look.generation != work.generation:
                return Outcome.REDELIVERY
            async with self._isolation.held(alone=look.starts > 0):
                return await self._begun(arrival, work)

    async def _sent_back(self, work: DocumentWork, look: Look, *, is_deferred: bool) -> DocumentWork:
        """Return the work of a dead letter that an operator sent back: the job runs again, as a later generation."""
        if look.phase == Phase.FAILED and not is_deferred:
            return await self._stages.journal.revive(work)
        return msgspec.structs.replace(work, generation=look.generation)

    async def _begun(self, arrival: Arrival[DocumentWork], work: DocumentWork) -> Outcome | FailedRecord[DocumentWork]:
        reach(Failpoint.BEFORE_TX)
        begun = await self._begin(work)
        if begun is None:
            return Outcome.REDELIVERY
        try:
            return await self._attempted(arrival, work, begun)
        # Ended in order, and no death of its own: whoever comes next begins it as if nothing had been.
        except asyncio.CancelledError:
            with suppress(Transient):
                await asyncio.shield(self._stages.journal.give_back(work))
            raise
        except Transient:
            self._owed.add((work.job_id, work.generation))
            with suppress(Transient):  # it may be Postgres that is away
                await self._settle_owed(work)
            raise

    async def _begin(self, work: DocumentWork) -> Begun | None:
        """Count a start of *work*; one that is cancelled meanwhile is given back once it shows that it was counted."""
        beginning = asyncio.create_task(self._stages.journal.begin(work))
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            with suppress(Transient):
                if await beginning is not None:
                    await self._stages.journal.give_back(work)
            raise

    async def _attempted(
        self, arrival: Arrival[DocumentWork], work: DocumentWork, begun: Begun
    ) -> Outcome | FailedRecord[DocumentWork]:
        if begun.starts > DEATHS_MAX:
            detail = f"{DEATHS_MAX} processes that began it died"
            await self._end(work, Phase.FAILED, JobError(stage=Stage.EMBED, reason=Failure.CRASHED, detail=detail))
            return FailedRecord(arrival, Reason.CRASHED, detail)
        if begun.is_superseded():
            await self._end(work, Phase.SUPERSEDED)
            return Outcome.DONE
        try:
            return await self._worked(work, begun)
        except Failed as failed:
            await self._end(work, Phase.FAILED, failed.error)
            return Outcome.DONE
        except (Poison, RecordRefused) as error:
            detail = f"its text, or what comes of it, cannot be kept: {error}"
            await self._end(work, Phase.FAILED, JobError(stage=Stage.EMBED, reason=Failure.NOT_STORABLE, detail=detail))
            return Outcome.DONE
        except EmbedderAway as away:
            return await self._away(arrival, work, begun, str(away))

    async def _settle_owed(self, work: DocumentWork) -> None:
        """Give back a start of *work* that is owed."""
        owed = (work.job_id, work.generation)
        if owed in self._owed:
            await self._stages.journal.give_back(work)
            self._owed.discard(owed)

    async def _worked(self, work: DocumentWork, begun: Begun) -> Outcome:
        found = await self._text(work, begun)
        if found is None:
            return Outcome.DONE
        embedders = self._known_embedders(work)
        chunked = [
            await self._stages.chunks.chunks(work, found.text, each, is_markdown=found.is_markdown)
            for each in embedders
        ]
        await self._stages.journal.chunked(work, sum(len(each) for each in chunked[:1]))
        embeddings = [
            await self._stages.chunks.embed(work, found.text, chunks, each, skips_bad=begun.skips_bad)
            for each, chunks in zip(embedders, chunked, strict=True)
        ]
        record = DocumentEmbedded(
            tenant=work.tenant,
            collection=work.collection,
            document=work.document,
            job_id=work.job_id,
            revision=work.revision,
            generation=work.generation,
            text_sha256=found.sha256,
            embeddings=embeddings,
        )
        await self._write(record)
        self._stages.downstream.passed(work.cost)
        reach(Failpoint.BEFORE_COMMIT)
        await self._stages.journal.embedded(work)
        return Outcome.DONE

    async def _text(self, work: DocumentWork, begun: Begun) -> FileText | None:
        """Return the text of a document; None if its job has ended instead."""
        if begun.text is not None:
            digest = hashlib.sha256(begun.text.encode()).digest()
            return FileText(begun.text, digest, begun.is_markdown)
        if begun.file is not None:
            found = await self._stages.files.read(work, begun)
            if found is None:
                self._stages.ended(Phase.STORED, None)
            return found
        if begun.kind == JobKind.REEMBED:
            await self._end(work, Phase.SUPERSEDED)
            return None
        raise Failed(JobError(stage=Stage.EMBED, reason=Failure.TEXT_MISSING, detail="its text is no longer kept"))

    def _known_embedders(self, work: DocumentWork) -> Sequence[Embedder]:
        """Return the embedders that *work* names. Raises EmbedderAway: this process lacks one, another may have it."""
        found = [(each, self._stages.embedders.by_id(each)) for each in work.embedders]
        if lacking := [each for each, embedder in found if embedder is None]:
            raise EmbedderAway(f"embedder {lacking[0][:12]} is not among TIDEGATE_EMBEDDERS of this process")
        return [embedder for _, embedder in found if embedder is not None]

    async def _away(
        self, arrival: Arrival[DocumentWork], work: DocumentWork, begun: Begun, detail: str
    ) -> Outcome | FailedRecord[DocumentWork]:
        error = JobError(stage=Stage.EMBED, reason=Failure.EMBEDDER_AWAY, detail=detail)
        if begun.attempts >= begun.max_retries or arrival.raw.tier >= len(EMBED.tiers):
            await self._end(work, Phase.FAILED, error)
            if arrival.raw.tier < len(EMBED.tiers):
                return Outcome.DONE
        else:
            await self._stages.journal.attempt_failed(work, error)
        return FailedRecord(arrival, Reason.EMBEDDER_AWAY, detail)

    async def _end(self, work: DocumentWork, phase: Phase, error: JobError | None = None) -> None:
        if await self._stages.journal.end(work, phase, error=error) is not None:
            self._stages.ended(phase, error)

    async def _write(self, record: DocumentEmbedded) -> None:
        value = await asyncio.to_thread(EMBEDDED_CODEC.encode, record)
        await self._stages.embedded.write(
            EMBEDDED_DOCUMENTS,
            [
                sealed_record(
                    EMBEDDED_DOCUMENTS,
                    record_id=f"dem_{record.job_id}_{record.generation}",
                    key=key_of(record),
                    tenant=record.tenant,
                    value=value,
                    by=self._stages.credentials,
                )
            ],
        )


def _raise_worst(results: Sequence[object]) -> None:
    """Raise an error that is among *results*: one that cannot pass by itself before one that may."""
    errors = [each for each in results if isinstance(each, BaseException)]
    if errors:
        raise min(errors, key=lambda error: isinstance(error, Transient))
