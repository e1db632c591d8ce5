"""
The verdict on each record of a slice: new, a duplicate, or against the rules. Pure.

Records are judged in log order, so that the first record of an identity wins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from processors.runtime.contract import Arrival, Outcome, Tally
from processors.runtime.errors import LogRewritten
from schemas.errors import Poison, Reason, Rejection
from schemas.events.records import UserEvent, uid_of

Place = tuple[int, int]  # partition, offset; the topic is the group's source


class StoredUserEvent(NamedTuple):
    """An event that is stored, or was taken earlier in the slice."""

    place: Place
    event_sha256: bytes


class NewEvent(NamedTuple):
    """An event to be stored."""

    uid: bytes
    arrival: Arrival[UserEvent]


class Duplicate(NamedTuple):
    """A record that repeats a stored event, and the place of that."""

    arrival: Arrival[UserEvent]
    first: Place


@dataclass(slots=True, kw_only=True)
class StoredUserEvents:
    """The stored data that decide about a slice."""

    events: dict[bytes, StoredUserEvent] = field(default_factory=dict)  # by uid
    at: dict[Place, bytes] = field(default_factory=dict)  # the uid that is stored from a place


@dataclass(slots=True, kw_only=True)
class UserEventVerdicts:
    """The slice, sorted by what is to be written."""

    events: list[NewEvent] = field(default_factory=list)
    again: list[Arrival[UserEvent]] = field(default_factory=list)  # redelivered: stored from this very place
    duplicates: list[Duplicate] = field(default_factory=list)
    rejected: list[tuple[Arrival[UserEvent], Rejection]] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)


def place_of(arrival: Arrival[UserEvent]) -> Place:
    """Return where *arrival* stands in the log."""
    return arrival.raw.partition, arrival.raw.offset


def judge(arrivals: Sequence[Arrival[UserEvent]], known: StoredUserEvents) -> UserEventVerdicts:
    """
    Sort *arrivals* by what they are; *known* grows with the events taken.

    Raises:
        LogRewritten: a place in the log holds another event than the one stored from it.
        Poison: the same, of a record that an operator sent back.
    """
    verdicts = UserEventVerdicts()
    for arrival in arrivals:
        uid, place = uid_of(arrival.record), place_of(arrival)
        if known.at and _is_stored_here(arrival, uid, known):
            verdicts.again.append(arrival)
        elif arrival.rejection is not None:
            _reject(verdicts, arrival, arrival.rejection)
        elif (stored := known.events.get(uid)) is None:
            known.events[uid] = StoredUserEvent(place, arrival.record.event_sha256)
            verdicts.events.append(NewEvent(uid, arrival))
        elif stored.event_sha256 == arrival.record.event_sha256:
            verdicts.duplicates.append(Duplicate(arrival, stored.place))
        else:
            detail = f"{arrival.record.event_id!r} is the id of an event of other content"
            _reject(verdicts, arrival, Rejection(reason=Reason.CONFLICT, detail=detail))
    verdicts.tally[Outcome.DONE, None] += len(verdicts.events)
    verdicts.tally[Outcome.REDELIVERY, None] += len(verdicts.again)
    verdicts.tally[Outcome.DUPLICATE, None] += len(verdicts.duplicates)
    return verdicts


def may_repeat_stored(verdicts: UserEventVerdicts) -> bool:
    """Return True if *verdicts*, reached without a look at what is stored, may be wrong though no key is taken."""
    # A rejected event violates no key of the tables, and may still be stored from this very place.
    return bool(verdicts.rejected)


def _is_stored_here(arrival: Arrival[UserEvent], uid: bytes, known: StoredUserEvents) -> bool:
    here = known.at.get(place_of(arrival))
    if here is None:
        return False
    if here != uid or known.events[uid].event_sha256 != arrival.record.event_sha256:
        found = f"{arrival.raw.place.wal_id} was stored as another event than the one that it holds now"
        if arrival.raw.attempt:  # whoever sent it back says where it is from
            raise Poison(Reason.NOT_STORABLE, found)
        raise LogRewritten(arrival.raw.offset, found)
    return True


def _reject(verdicts: UserEventVerdicts, arrival: Arrival[UserEvent], rejection: Rejection) -> None:
    verdicts.rejected.append((arrival, rejection))
    verdicts.tally[Outcome.REJECTED, rejection.reason] += 1
