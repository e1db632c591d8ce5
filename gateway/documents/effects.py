"""The effects of the groups that turn commands into rows, embed documents and store them."""

from collections.abc import Mapping
from datetime import datetime

from gateway.documents.store import DocumentJobBrief, DocumentStore
from gateway.kafka.effect import NOTHING_KNOWN, Effect, EffectFinder
from gateway.kafka.reader import LogRecord
from schemas.access.credentials import Principal
from schemas.documents.codec import COMMAND_CODEC, EMBEDDED_CODEC, WORK_CODEC
from schemas.documents.records import DocumentEmbedded, DocumentWork, record_id
from schemas.documents.topics import EMBED, INTAKE, STORE
from schemas.errors import Poison
from schemas.kafka.codec import Codec
from schemas.kafka.places import RecordPlace
from schemas.kafka.topics import Group


def effect_finders(store: DocumentStore) -> Mapping[str, EffectFinder]:
    """Return the finders of the groups of documents, by the name of the group."""
    return {
        INTAKE.name: DocumentCommandEffects(store),
        EMBED.name: StageEffects(store, WORK_CODEC),
        STORE.name: StageEffects(store, EMBEDDED_CODEC),
    }


class DocumentCommandEffects:
    """`EffectFinder` of the group that stores commands."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    async def stored(self, place: RecordPlace, record: LogRecord | None, principal: Principal) -> Effect | None:
        """See `EffectFinder.stored`."""
        return await self._store.effect(principal.tenant, place, _command_id(record))

    def presumed(self, _group: Group, _place: RecordPlace, _record: LogRecord | None) -> Effect:
        """See `EffectFinder.presumed`."""
        return NOTHING_KNOWN


class StageEffects:
    """`EffectFinder` of a group that carries a job on: its effect is the state of the job."""

    def __init__(self, store: DocumentStore, codec: Codec[DocumentWork] | Codec[DocumentEmbedded]) -> None:
        self._store = store
        self._codec = codec

    async def stored(self, _place: RecordPlace, record: LogRecord | None, principal: Principal) -> Effect | None:
        """See `EffectFinder.stored`."""
        work = self._decoded(record)
        if work is None or work.tenant != principal.tenant:
            return None
        job = await self._store.brief(principal.tenant, work.job_id)
        passed_at = None if job is None else self._passed_at(job, work)
        if job is None or passed_at is None:
            return None
        return Effect(outcome="processed", reason=job.reason, detail=f"job is {job.phase}", at=passed_at)

    def presumed(self, _group: Group, _place: RecordPlace, _record: LogRecord | None) -> Effect:
        """See `EffectFinder.presumed`."""
        return NOTHING_KNOWN

    def _decoded(self, record: LogRecord | None) -> DocumentWork | DocumentEmbedded | None:
        try:
            return None if record is None else self._codec.decode(record.value)
        except Poison:
            return None

    def _passed_at(self, job: DocumentJobBrief, work: DocumentWork | DocumentEmbedded) -> datetime | None:
        if job.generation < work.generation:
            return None
        return job.ended_at or (job.embedded_at if isinstance(work, DocumentWork) else None)


def _command_id(record: LogRecord | None) -> str | None:
    try:
        return None if record is None else record_id(COMMAND_CODEC.decode(record.value))
    except Poison:
        return None
