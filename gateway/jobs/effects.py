"""The effects of the group that turns commands into rows."""

from collections.abc import Mapping

from gateway.jobs.store import JobStore
from gateway.kafka.effect import NOTHING_KNOWN, Effect, EffectFinder
from gateway.kafka.reader import LogRecord
from schemas.access.credentials import Principal
from schemas.errors import Poison
from schemas.jobs.codec import COMMAND_CODEC
from schemas.jobs.records import record_id
from schemas.jobs.topics import INTAKE
from schemas.kafka.places import RecordPlace
from schemas.kafka.topics import Group


def effect_finders(store: JobStore) -> Mapping[str, EffectFinder]:
    """Return the finders of the groups of jobs, by the name of the group."""
    return {INTAKE.name: CommandEffects(store)}


class CommandEffects:
    """`EffectFinder` of the group that stores commands."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    async def stored(self, place: RecordPlace, record: LogRecord | None, principal: Principal) -> Effect | None:
        """See `EffectFinder.stored`."""
        return await self._store.effect(principal.tenant, place, _command_id(record))

    def presumed(self, _group: Group, _place: RecordPlace, _record: LogRecord | None) -> Effect:
        """See `EffectFinder.presumed`."""
        return NOTHING_KNOWN


def _command_id(record: LogRecord | None) -> str | None:
    try:
        return None if record is None else record_id(COMMAND_CODEC.decode(record.value))
    except Poison:
        return None
