"""Verdicts on arriving user events: new, duplicate, rejected, or stored before."""

import pytest

from processors.events.rows.rows import clock_of
from processors.events.rows.verdicts import (
    Duplicate,
    NewEvent,
    StoredUserEvent,
    StoredUserEvents,
    judge,
    may_repeat_stored,
)
from processors.runtime.contract import Arrival, Outcome, Tally
from processors.runtime.errors import LogRewritten
from schemas.errors import Poison, Reason, Rejection
from schemas.events.records import UserEvent, uid_of
from schemas.times import moment_of
from tests.support.builders import raw_user_event, user_event

FIRST = user_event()
OTHER = user_event(payload={"other": 1})


def arrival(
    event: UserEvent, offset: int, rejection: Rejection | None = None, *, attempt: int = 0
) -> Arrival[UserEvent]:
    raw = raw_user_event(event, offset=offset)
    raw.attempt = attempt
    return Arrival(raw, {}, event, rejection)  # type: ignore[arg-type]  # it has what is looked at


def stored(event: UserEvent, offset: int) -> StoredUserEvents:
    uid = uid_of(event)
    return StoredUserEvents(events={uid: StoredUserEvent((0, offset), event.event_sha256)}, at={(0, offset): uid})


def test_new_events_are_taken_in_log_order() -> None:
    arrivals = [arrival(user_event(f"e-{number}"), number) for number in range(3)]
    verdicts = judge(arrivals, StoredUserEvents())
    assert verdicts.events == [NewEvent(uid_of(each.record), each) for each in arrivals]
    assert verdicts.tally[Outcome.DONE, None] == 3
    assert not may_repeat_stored(verdicts)


def test_a_copy_is_a_duplicate_of_the_first() -> None:
    first, copy = arrival(FIRST, 1), arrival(FIRST, 9)
    assert judge([first, copy], StoredUserEvents()).duplicates == [Duplicate(copy, (0, 1))]
    assert judge([copy], stored(FIRST, 1)).duplicates == [Duplicate(copy, (0, 1))]


def test_the_id_of_another_event_is_a_conflict() -> None:
    [(_, rejection)] = judge([arrival(OTHER, 9)], stored(FIRST, 1)).rejected
    assert rejection.reason is Reason.CONFLICT
    verdicts = judge([arrival(FIRST, 1), arrival(OTHER, 2), arrival(FIRST, 3)], StoredUserEvents())
    assert verdicts.tally == Tally(
        {(Outcome.DONE, None): 1, (Outcome.REJECTED, Reason.CONFLICT): 1, (Outcome.DUPLICATE, None): 1}
    )
    assert may_repeat_stored(verdicts)


def test_another_users_event_of_that_id_is_another_event() -> None:
    assert len(judge([arrival(user_event(user_id="u-2"), 9)], stored(FIRST, 1)).events) == 1


def test_a_place_that_is_stored_is_a_redelivery_whatever_is_said_of_it_now() -> None:
    rejection = Rejection(reason=Reason.UNSIGNED_DIRECT, detail="")
    verdicts = judge([arrival(FIRST, 1, rejection)], stored(FIRST, 1))
    assert verdicts.tally == Tally({(Outcome.REDELIVERY, None): 1})


@pytest.mark.parametrize("event", [OTHER, user_event("e-2")])
def test_a_place_that_holds_another_event_stops_the_partition(event: UserEvent) -> None:
    with pytest.raises(LogRewritten):
        judge([arrival(event, 1)], stored(FIRST, 1))
    with pytest.raises(Poison):
        judge([arrival(event, 1, attempt=1)], stored(FIRST, 1))


@pytest.mark.parametrize(
    ("happened", "clock"),
    [
        ("2026-11-20T10:00:00Z", "ok"),
        ("2026-11-20T10:05:00Z", "ok"),
        ("2026-11-20T10:05:01Z", "future"),
        ("2026-11-13T10:00:00Z", "ok"),
        ("2026-11-13T09:59:59Z", "stale"),
    ],
)
def test_clocks_are_compared(happened: str, clock: str) -> None:
    assert clock_of(moment_of(happened), moment_of("2026-11-20T10:00:00Z")) == clock
