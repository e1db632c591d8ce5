"""The effects of the groups of user events: rows, and what functions made of them."""

from collections.abc import Mapping

from gateway.events.store import UserEventStore
from gateway.kafka.effect import EXPIRED, NOTHING_KNOWN, Effect, EffectFinder
from gateway.kafka.reader import LogRecord
from schemas.access.credentials import Principal
from schemas.errors import Poison
from schemas.events.codec import EVENT_CODEC
from schemas.events.topics import EVENTS, PROCESSING
from schemas.kafka.places import RecordPlace
from schemas.kafka.topics import Group
from schemas.sinks.topics import SINK

# What a sink asks for stands in its file alone.
_TAKEN_OR_NOT_ASKED_FOR = Effect(
    outcome="unknown", detail="the sink took it, does not ask for it, or was ordered to skip it"
)


def effect_finders(store: UserEventStore) -> Mapping[str, EffectFinder]:
    """Return the finders of the groups of user events, by the name of a group or of its family."""
    return {EVENTS.name: RowEffects(store), PROCESSING.name: ProcessingEffects(store), SINK.prefix: SinkEffects()}


class RowEffects:
    """`EffectFinder` of the group that stores the rows."""

    def __init__(self, store: UserEventStore) -> None:
        self._store = store

    async def stored(self, place: RecordPlace, record: LogRecord | None, principal: Principal) -> Effect | None:
        """See `EffectFinder.stored`."""
        return await self._store.effect(principal.tenant, place, _digest(record))

    def presumed(self, _group: Group, _place: RecordPlace, _record: LogRecord | None) -> Effect:
        """See `EffectFinder.presumed`."""
        return NOTHING_KNOWN


class ProcessingEffects:
    """`EffectFinder` of the group that calls functions: its effect stands in the row."""

    def __init__(self, store: UserEventStore) -> None:
        self._store = store

    async def stored(self, place: RecordPlace, record: LogRecord | None, principal: Principal) -> Effect | None:
        """See `EffectFinder.stored`."""
        return await self._store.processing_effect(principal.tenant, place, _digest(record))

    def presumed(self, _group: Group, _place: RecordPlace, _record: LogRecord | None) -> Effect:
        """See `EffectFinder.presumed`."""
        return NOTHING_KNOWN


class SinkEffects:
    """`EffectFinder` of the groups of sinks, which store nothing with us."""

    async def stored(self, _place: RecordPlace, _record: LogRecord | None, _principal: Principal) -> Effect | None:
        """See `EffectFinder.stored`."""
        return None

    def presumed(self, _group: Group, _place: RecordPlace, record: LogRecord | None) -> Effect:
        """See `EffectFinder.presumed`."""
        return EXPIRED if record is None else _TAKEN_OR_NOT_ASKED_FOR


def _digest(record: LogRecord | None) -> bytes | None:
    try:
        return None if record is None else EVENT_CODEC.decode(record.value).event_sha256
    except Poison:
        return None
