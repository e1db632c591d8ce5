"""
The effect of a consumer group on a record that the group has committed past.

Persistence's effect is in the store. Whether an endpoint received a record follows only from its delay tiers, its dead
letters and the record itself: a record that is in none of these topics was delivered, unless it was not meant for the
endpoint or is before the position where the endpoint's group began.
"""

from collections.abc import Mapping
from datetime import timedelta

from gateway.errors import StoreUnavailable
from gateway.kafka.effect import Effect, EffectFinder
from gateway.kafka.facts import FactReaders
from gateway.kafka.followers import GroupFollower, PartitionProgress
from gateway.kafka.reader import Log, LogRecord, Search
from gateway.status.records import describe, may_see, text
from gateway.status.views import RecordView
from schemas.access.credentials import Principal
from schemas.kafka import headers
from schemas.kafka.places import RecordPlace
from schemas.kafka.topics import Group

OF_ROWS = ("stored", "duplicate", "replaced", "rejected")  # outcomes that the store has, by the record's identity
_NOT_SEARCHED = Effect(outcome="unknown", detail="there was no time to search all that was put aside")
_SENT_BACK = "an operator sent it back, and it was not handled since"


class Effects:
    """A finder of a consumer group's effect on a record."""

    def __init__(
        self,
        *,
        log: Log,
        finders: Mapping[str, EffectFinder],
        facts: FactReaders,
    ) -> None:
        """Look into *log*, and ask *finders*, by the name of a group or of its family; *facts* read its records."""
        self._log = log
        self._finders = finders
        self._facts = facts

    async def find(
        self,
        follower: GroupFollower,
        place: RecordPlace,
        record: LogRecord | None,
        view: RecordView | None,
        principal: Principal,
    ) -> Effect:
        """
        Return what the group of *follower* made of the record at *place*; None of *record* and *view* says that it
        expired.

        Raises:
            QueueFull, LogUnavailable: see `Log`.
        """
        # Before the search: what is handled afterwards may have been put aside again, where it was not seen.
        handled = {
            topic.name: follower.progress(topic.name)
            for topic in (follower.group.redrive, *(tier.topic for tier in follower.group.tiers))
        }
        finder = self._finders[follower.group.family or follower.group.name]
        away = None
        # The store goes before what was put aside: a dead letter that was sent back and stored is both.
        try:
            if (stored := await finder.stored(place, record, principal)) is not None:
                return stored
        except StoreUnavailable as error:
            away = Effect(outcome="unknown", detail=str(error))
        search = await self._search(follower, place, view, principal)
        if search.last is not None and (aside := _set_aside(follower.group, search.last, handled)) is not None:
            return aside
        if away is not None or not search.complete:
            return away or _NOT_SEARCHED
        return finder.presumed(follower.group, place, record)

    async def _search(
        self, follower: GroupFollower, place: RecordPlace, view: RecordView | None, principal: Principal
    ) -> Search:
        written_at = None if view is None else view.written_at
        search = await self._log.set_aside(follower.group, place, written_at=written_at)
        if search.last is not None and view is None and not may_see(principal, describe(search.last, self._facts)):
            return Search(last=None, complete=search.complete)
        if search.last is not None and view is not None and not _is_copy(search.last, view):
            return Search(last=None, complete=search.complete)
        return search


def _is_copy(letter: LogRecord, view: RecordView) -> bool:
    """Return True unless *letter* is of another record, which had the place before the log was cut off."""
    event_id = text(headers.find(letter.headers, headers.EVENT_ID))
    return event_id is None or view.event_id is None or event_id == view.event_id


def _set_aside(group: Group, copy: LogRecord, handled: Mapping[str, Mapping[int, PartitionProgress]]) -> Effect | None:
    """Return what *copy*, the newest that was put aside, says; None if the group has *handled* it since."""
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
