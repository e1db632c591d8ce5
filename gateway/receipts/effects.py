"""
What a group made of a record that it has committed past.

Persistence's effect stands in the store; whether an endpoint was sent a record, only what was put aside of it and the
record itself tell: what is in no delay tier and no dead letter was delivered, unless it was not the endpoint's or lies
before the place where that began.
"""

from collections.abc import Mapping
from datetime import timedelta

from gateway.errors import StoreUnavailable
from gateway.log.effect import Effect
from gateway.log.followers import GroupFollower, Progress
from gateway.log.reader import Log, LogRecord, Search
from gateway.queries.runs import RecordIdentity, RunStore
from gateway.receipts.endpoints import EndpointViews
from gateway.receipts.records import describe, may_see, text
from gateway.receipts.views import RecordView
from schemas.access.credentials import CurrentCredentials, Principal
from schemas.errors import Poison
from schemas.kafka import headers
from schemas.kafka.places import RecordPlace
from schemas.kafka.topics import Group
from schemas.runs.codec import RUN_CODEC
from schemas.runs.records import EnvironmentCaptured, RunEvent
from schemas.runs.topics import endpoint_of
from schemas.runs.validity import check_record_now

NOTHING_KNOWN = Effect(
    outcome="unknown",
    detail="neither in the store nor among the dead letters from its time on: retention may have removed it",
)
OF_ROWS = ("stored", "duplicate", "replaced", "rejected")  # outcomes that the store has, by the record's identity
_NOT_SEARCHED = Effect(outcome="unknown", detail="there was no time to search all that was put aside")
EXPIRED = Effect(outcome="unknown", detail="the record has expired, and was not put aside from its time on")
_NOT_ASKED_FOR = "the endpoint does not ask for it, as it is set up now"
_BEGAN_BEHIND = "the endpoint began behind it; a replay sends it"
_SENT_BACK = "an operator sent it back, and it was not handled since"


class Effects:
    """Tells effects."""

    def __init__(
        self,
        *,
        log: Log,
        store: RunStore,
        credentials: CurrentCredentials,
        endpoints: EndpointViews,
    ) -> None:
        """Look into *log* and *store*; *endpoints* knows what each asks for."""
        self._log = log
        self._store = store
        self._credentials = credentials
        self._endpoints = endpoints

    async def find(
        self,
        follower: GroupFollower,
        place: RecordPlace,
        record: LogRecord | None,
        view: RecordView | None,
        principal: Principal,
    ) -> Effect:
        """
        What the group of *follower* made of the record at *place*; None of *record* and *view* says that it expired.

        Raises:
            QueueFull, LogUnavailable: see `Log`.
        """
        # Before the search: what is handled afterwards may have been put aside again, where it was not seen.
        handled = {
            topic.name: follower.progress(topic.name)
            for topic in (follower.group.redrive, *(tier.topic for tier in follower.group.tiers))
        }
        is_persistence = endpoint_of(follower.group) is None
        away = None
        if is_persistence:
            # The store goes before what was put aside: a dead letter that was sent back and stored is both.
            try:
                if (stored := await self._stored(place, record, principal)) is not None:
                    return stored
            except StoreUnavailable as error:
                away = Effect(outcome="unknown", detail=str(error))
        search = await self._search(follower, place, view, principal)
        if search.last is not None and (aside := _set_aside(follower.group, search.last, handled)) is not None:
            return aside
        if away is not None or not search.complete:
            return away or _NOT_SEARCHED
        if is_persistence:
            return NOTHING_KNOWN
        if self._endpoints.began_behind(endpoint_of(follower.group), place):
            return Effect(outcome="filtered", detail=_BEGAN_BEHIND)
        return EXPIRED if record is None else self._delivered(follower.group, record)

    async def _stored(self, place: RecordPlace, record: LogRecord | None, principal: Principal) -> Effect | None:
        return await self._store.effect(principal.tenant, place, _identity(record))

    async def _search(
        self, follower: GroupFollower, place: RecordPlace, view: RecordView | None, principal: Principal
    ) -> Search:
        written_at = None if view is None else view.written_at
        search = await self._log.set_aside(follower.group, place, written_at=written_at)
        if search.last is not None and view is None and not may_see(principal, describe(search.last)):
            return Search(last=None, complete=search.complete)
        if search.last is not None and view is not None and not _is_copy(search.last, view):
            return Search(last=None, complete=search.complete)
        return search

    def _delivered(self, group: Group, record: LogRecord) -> Effect:
        try:
            decoded = RUN_CODEC.decode(record.value)
            rejection = check_record_now(
                decoded,
                topic=record.place.topic,
                key=record.key,
                value=record.value or b"",
                headers=record.headers,
                credentials=self._credentials,
            )
        except Poison:
            return NOTHING_KNOWN  # poison to the group, and so to be found among its dead letters
        if rejection is not None:
            return Effect(outcome="rejected", reason=rejection.reason, detail=rejection.detail)
        if not self._endpoints.want(endpoint_of(group), decoded):
            return Effect(outcome="filtered", detail=_NOT_ASKED_FOR)
        return Effect(outcome="delivered")


def _is_copy(letter: LogRecord, view: RecordView) -> bool:
    """True unless *letter* is of another record, which had the place before the log was cut off."""
    event_id = text(headers.find(letter.headers, headers.EVENT_ID))
    return event_id is None or view.event_id is None or event_id == view.event_id


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


def _set_aside(group: Group, copy: LogRecord, handled: Mapping[str, Mapping[int, Progress]]) -> Effect | None:
    """What *copy*, the newest that was put aside, says; None if the group has *handled* it since."""
    reason, detail = (text(headers.find(copy.headers, name)) for name in (headers.ERROR_CLASS, headers.ERROR_MESSAGE))
    if copy.place.topic == group.dead_letters.name:
        return Effect(
            outcome="dead_lettered", reason=reason, detail=detail, dead_letter=copy.place.wal_id, at=copy.written_at
        )
    progress = handled[copy.place.topic].get(copy.place.partition)
    if progress is not None and (progress.committed or 0) > copy.place.offset:
        return None
    delays_s = {tier.topic.name: tier.delay_s for tier in group.tiers}
    due_s = delays_s.get(copy.place.topic)
    if due_s is None:
        return Effect(outcome="deferred", reason=reason, detail=_SENT_BACK, at=copy.written_at)
    return Effect(
        outcome="deferred",
        reason=reason,
        detail=detail,
        at=copy.written_at,
        due_at=copy.written_at and copy.written_at + timedelta(seconds=due_s),
    )
