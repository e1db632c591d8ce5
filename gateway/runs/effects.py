"""The effects of the groups of runs: rows of persistence, webhooks of evaluation."""

from collections.abc import Mapping
from typing import Protocol

from gateway.kafka.effect import EXPIRED, NOTHING_KNOWN, Effect, EffectFinder
from gateway.kafka.reader import LogRecord
from gateway.runs.reading import read_record
from gateway.runs.store import RecordIdentity, RunStore
from schemas.access.credentials import CurrentCredentials, Principal
from schemas.errors import Poison
from schemas.kafka.places import RecordPlace
from schemas.kafka.topics import Group
from schemas.runs.codec import RUN_CODEC
from schemas.runs.records import EnvironmentCaptured, RunEvent, RunRecord
from schemas.runs.topics import EVALUATION, PERSISTENCE, endpoint_of

_NOT_ASKED_FOR = "the endpoint does not ask for it, as it is set up now"
_BEGAN_BEHIND = "the endpoint began behind it; a replay sends it"


class Endpoints(Protocol):
    """The port to what the webhook endpoints ask for."""

    def want(self, endpoint: str | None, record: RunRecord) -> bool:
        """Return True if *endpoint* asks for *record*, as it is set up now, or may, as far as is known."""

    def began_behind(self, endpoint: str | None, place: RecordPlace) -> bool:
        """Return True if *place* is known to precede the one where the group of *endpoint* began."""


def effect_finders(
    store: RunStore, endpoints: Endpoints, credentials: CurrentCredentials
) -> Mapping[str, EffectFinder]:
    """Return the finders of the groups of runs, by the name of the group or of its family."""
    return {
        PERSISTENCE.name: PersistenceEffects(store),
        EVALUATION.prefix: EvaluationEffects(endpoints, credentials),
    }


class PersistenceEffects:
    """`EffectFinder` of persistence: its effect is in the store."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    async def stored(self, place: RecordPlace, record: LogRecord | None, principal: Principal) -> Effect | None:
        """See `EffectFinder.stored`."""
        return await self._store.effect(principal.tenant, place, _identity(record))

    def presumed(self, _group: Group, _place: RecordPlace, _record: LogRecord | None) -> Effect:
        """See `EffectFinder.presumed`."""
        return NOTHING_KNOWN


class EvaluationEffects:
    """
    `EffectFinder` of the groups of endpoints, which store nothing.

    What is in no delay tier and no dead letter was delivered, unless it was not the endpoint's or precedes the place
    where that began.
    """

    def __init__(self, endpoints: Endpoints, credentials: CurrentCredentials) -> None:
        self._endpoints = endpoints
        self._credentials = credentials

    async def stored(self, _place: RecordPlace, _record: LogRecord | None, _principal: Principal) -> Effect | None:
        """See `EffectFinder.stored`."""
        return None

    def presumed(self, group: Group, place: RecordPlace, record: LogRecord | None) -> Effect:
        """See `EffectFinder.presumed`."""
        endpoint = endpoint_of(group)
        if self._endpoints.began_behind(endpoint, place):
            return Effect(outcome="filtered", detail=_BEGAN_BEHIND)
        return EXPIRED if record is None else self._delivered(endpoint, record)

    def _delivered(self, endpoint: str | None, record: LogRecord) -> Effect:
        try:
            decoded, rejection = read_record(record, self._credentials)
        except Poison:
            return NOTHING_KNOWN  # poison to the group, and so to be found among its dead letters
        if rejection is not None:
            return Effect(outcome="rejected", reason=rejection.reason, detail=rejection.detail)
        if not self._endpoints.want(endpoint, decoded):
            return Effect(outcome="filtered", detail=_NOT_ASKED_FOR)
        return Effect(outcome="delivered")


def _identity(record: LogRecord | None) -> RecordIdentity:
    try:
        decoded = None if record is None else RUN_CODEC.decode(record.value)
    except Poison:
        decoded = None
    if decoded is None:
        return RecordIdentity()
    return RecordIdentity(
        run_id=decoded.run_id,
        event_sha256=decoded.event_sha256 if isinstance(decoded, RunEvent) else None,
        environment=isinstance(decoded, EnvironmentCaptured),
    )
