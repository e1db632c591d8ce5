"""Functions that process events: called in order, within limits, and whatever they do is one failed attempt."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from processors.events.processing.functions import CallFailed, Function, IncomingEvent, call, find, incoming
from processors.events.processing.handler import CallLimits, Processing
from processors.events.processing.rows import CallEnd, EventState, Place, RowState, _rounds
from processors.runtime.contract import Arrival, Outcome
from processors.runtime.errors import Transient
from schemas.errors import Reason
from schemas.events.records import UserEvent
from schemas.process.settings import SettingsInvalid
from schemas.times import moment_of
from tests.support.builders import raw_user_event, user_event

NOW = moment_of("2026-11-20T10:00:00Z")
TIERS = 3


class MemoryRows:
    """Rows in memory: every event is stored, unless a test says otherwise."""

    def __init__(self) -> None:
        self.states_of: dict[Place, RowState] = {}
        self.missing: set[Place] = set()
        self.ends: list[CallEnd] = []

    async def states(self, places: Sequence[Place]) -> dict[Place, RowState]:
        pending = RowState(EventState.PENDING, 0, was_called=False)
        return {place: self.states_of.get(place, pending) for place in places if place not in self.missing}

    async def note(self, ends: Sequence[CallEnd]) -> None:
        assert ends
        self.ends += ends


def arrival(event: UserEvent, offset: int, *, tier: int = 0, attempt: int = 0) -> Arrival[UserEvent]:
    raw = raw_user_event(event, offset=offset)
    raw.tier, raw.attempt = tier, attempt
    return Arrival(raw, {}, event, None)  # type: ignore[arg-type]  # it has what is looked at


def processing(
    function: Function, rows: MemoryRows, *, repeats: bool = False, concurrency: int = 4, stored_until: int = 0
) -> Processing:
    async def committed(_partition: int) -> int:
        return stored_until

    return Processing(
        {"order_completed": function},
        rows,  # type: ignore[arg-type]
        stored_until=committed,
        limits=CallLimits(concurrency, 0.2, 0.4),
        tier_count=TIERS,
        repeats=repeats,
        row_patience_s=0.0,
    )


async def fine(event: IncomingEvent) -> dict[str, Any] | None:
    return {"id": event.event_id}


async def test_each_event_of_a_type_with_a_function_is_processed() -> None:
    rows = MemoryRows()
    events = [user_event("e-1"), user_event("e-2", type="other"), user_event("e-3", user_id="u-2")]
    settled = await processing(fine, rows).process([arrival(each, offset) for offset, each in enumerate(events)])
    assert settled.tally == {(Outcome.DONE, None): 2, (Outcome.FILTERED, None): 1}
    assert {(end.place, end.status, end.result) for end in rows.ends} == {
        ((0, 0), EventState.PROCESSED, b'{"id":"e-1"}'),
        ((0, 2), EventState.PROCESSED, b'{"id":"e-3"}'),
    }


async def test_a_keys_events_are_in_order_and_keys_side_by_side() -> None:
    under_way: set[str | None] = set()
    order: list[tuple[str | None, str]] = []
    most = 0

    async def slow(event: IncomingEvent) -> None:
        nonlocal most
        assert event.user_id not in under_way
        under_way.add(event.user_id)
        most = max(most, len(under_way))
        await asyncio.sleep(0.005)
        under_way.discard(event.user_id)
        order.append((event.user_id, event.event_id))

    events = [user_event(f"e-{number}", user_id=f"u-{number % 5}") for number in range(20)]
    await processing(slow, MemoryRows(), concurrency=3).process([arrival(each, at) for at, each in enumerate(events)])
    assert most == 3
    for user in {user for user, _ in order}:
        assert [event_id for each, event_id in order if each == user] == [
            each.event_id for each in events if each.user_id == user
        ]


@pytest.mark.parametrize(("tier", "status"), [(0, EventState.PENDING), (2, EventState.PENDING), (3, EventState.FAILED)])
async def test_a_failure_waits_in_the_next_tier_and_the_last_one_is_final(tier: int, status: EventState) -> None:
    async def failing(_event: IncomingEvent) -> None:
        raise ValueError("no such order\0")

    rows = MemoryRows()
    settled = await processing(failing, rows).process([arrival(user_event(), 5, tier=tier)])
    [failed] = settled.retry_later
    assert (failed.reason, failed.detail) == (Reason.PROCESSING_FAILED, "ValueError: no such order\\0")
    assert rows.ends == [CallEnd((0, 5), status, error_class="ValueError", error="no such order\\0")]


async def test_a_row_comes_first() -> None:
    rows = MemoryRows()
    rows.missing = {(0, 1)}
    with pytest.raises(Transient, match=r"user\.events/0/1 is not stored yet"):
        await processing(fine, rows).process([arrival(user_event("e-1"), 0), arrival(user_event("e-2"), 1)])
    assert not rows.ends


async def test_the_end_of_a_call_is_stored_while_a_slower_one_goes_on() -> None:
    rows = MemoryRows()

    async def waiting(event: IncomingEvent) -> None:
        while event.user_id == "slow" and not rows.ends:  # noqa: ASYNC110  its soft limit ends it
            await asyncio.sleep(0.01)

    events = [user_event("e-1", user_id="slow"), user_event("e-2", user_id="fast")]
    settled = await processing(waiting, rows).process([arrival(each, at) for at, each in enumerate(events)])
    assert settled.tally == {(Outcome.DONE, None): 2}
    assert [end.place for end in rows.ends] == [(0, 1), (0, 0)]


def test_one_statement_names_each_place_once() -> None:
    ends = [
        CallEnd((0, offset), EventState.PENDING, error=str(number)) for number, offset in enumerate([1, 2, 1, 1, 3])
    ]
    found = [[end.error for end in each] for each in _rounds(ends)]
    assert [sorted(each) for each in found] == [["0", "1", "4"], ["2"], ["3"]]


async def test_an_event_that_will_not_be_stored_is_a_dead_letter_and_holds_up_nothing() -> None:
    rows = MemoryRows()
    rows.missing = {(0, 1)}
    arrivals = [arrival(user_event(f"e-{number}"), number) for number in range(3)]
    settled = await processing(fine, rows, stored_until=2).process(arrivals)
    [dead] = settled.dead
    assert (dead.arrival.raw.offset, dead.reason) == (1, Reason.ROW_MISSING)
    assert [end.place for end in rows.ends] == [(0, 0), (0, 2)]


async def test_an_event_that_was_stored_between_two_looks_is_processed() -> None:
    class Later(MemoryRows):
        async def states(self, places: Sequence[Place]) -> dict[Place, RowState]:
            found = await super().states(places)
            self.missing = set()
            return found

    rows = Later()
    rows.missing = {(0, 0)}
    settled = await processing(fine, rows, stored_until=1).process([arrival(user_event("e-1"), 0)])
    assert not settled.dead
    assert [end.place for end in rows.ends] == [(0, 0)]


@pytest.mark.parametrize(
    ("state", "tier", "attempt", "repeats", "calls"),
    [
        (RowState(EventState.NOT_STORED, 0, was_called=False), 0, 0, True, 0),
        (RowState(EventState.PROCESSED, 1, was_called=True), 0, 0, False, 0),
        (RowState(EventState.PROCESSED, 1, was_called=True), 0, 0, True, 1),
        (RowState(EventState.PROCESSED, 0, was_called=False), 0, 0, False, 1),  # stored before there was a function
        (RowState(EventState.FAILED, 4, was_called=True), 0, 1, False, 1),
        (RowState(EventState.PENDING, 1, was_called=False), 1, 0, False, 1),
    ],
)
async def test_what_was_called_before_is_not_called_again(
    state: RowState, tier: int, attempt: int, repeats: bool, calls: int
) -> None:
    rows = MemoryRows()
    rows.states_of[0, 0] = state
    one = arrival(user_event(), 0, tier=tier, attempt=attempt)
    await processing(fine, rows, repeats=repeats).process([one])
    assert len(rows.ends) == calls


async def _sleeps(_event: IncomingEvent) -> None:
    await asyncio.sleep(60)


async def _never_ends(_event: IncomingEvent) -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if not _never_ends_goes_on:
                raise


_never_ends_goes_on = True


async def _exits(_event: IncomingEvent) -> None:
    sys.exit(3)


async def _returns_a_list(_event: IncomingEvent) -> Any:
    return [1]


async def _returns_a_set(_event: IncomingEvent) -> Any:
    return {"a": object()}


async def _returns_much(_event: IncomingEvent) -> Any:
    return {"a": "x" * 70_000}


async def _returns_a_nul(_event: IncomingEvent) -> Any:
    return {"a": "\0"}


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


async def _raises_the_unprintable(_event: IncomingEvent) -> None:
    raise _Unprintable


async def _cancels_itself(_event: IncomingEvent) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("function", "error_class"),
    [
        (_sleeps, "TimeoutError"),
        (_never_ends, "TimeoutError"),
        (_exits, "RuntimeError"),
        (_returns_a_list, "TypeError"),
        (_returns_a_set, "TypeError"),
        (_returns_much, "ValueError"),
        (_returns_a_nul, "ValueError"),
        (_raises_the_unprintable, "_Unprintable"),
        (_cancels_itself, "CancelledError"),
    ],
)
async def test_whatever_a_function_does_is_one_failed_attempt(function: Function, error_class: str) -> None:
    global _never_ends_goes_on  # noqa: PLW0603  so that its task ends with the test
    _never_ends_goes_on = True
    event = incoming(user_event(), received_at=NOW, attempt=1)
    with pytest.raises(CallFailed) as failure:
        await call(function, event, soft_limit_s=0.05, hard_limit_s=0.1)
    assert failure.value.error_class == error_class
    _never_ends_goes_on = False
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0)


async def test_a_backslash_is_no_nul() -> None:
    async def said(_event: IncomingEvent) -> dict[str, Any]:
        return {"a": "\\u0000"}

    event = incoming(user_event(), received_at=NOW, attempt=1)
    assert await call(said, event, soft_limit_s=1, hard_limit_s=2) == b'{"a":"\\\\u0000"}'


@pytest.mark.parametrize("place", ["no.such.module:f", "json:nothing", "json:loads", f"{__name__}:NOW"])
def test_a_function_that_is_none_stops_the_start(place: str) -> None:
    with pytest.raises(SettingsInvalid, match="order_completed"):
        find({"order_completed": place})
    assert find({"order_completed": f"{__name__}:fine"}) == {"order_completed": fine}
