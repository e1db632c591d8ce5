"""A ticket opens one socket, soon, for the key that it was given to; there are only so many."""

import pytest

from processors.fanout import tickets as module
from processors.fanout.tickets import TICKETS_OF_A_KEY_MAX, VALID_S, Tickets, TooManyTickets
from schemas.access.credentials import Principal, Right


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def principal(key_id: str = "k") -> Principal:
    return Principal(key_id=key_id, tenant="demo", rights=frozenset({Right.READ}), agents=None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tickets(clock: Clock) -> Tickets:
    return Tickets(clock=clock)


def test_a_ticket_is_used_once(tickets: Tickets) -> None:
    ticket = tickets.give(principal())
    assert tickets.redeem(ticket) == principal()
    assert tickets.redeem(ticket) is None


def test_a_ticket_runs_out(tickets: Tickets, clock: Clock) -> None:
    early, late = tickets.give(principal()), tickets.give(principal())
    clock.now_s = VALID_S - 0.1
    assert tickets.redeem(early) is not None
    clock.now_s = VALID_S
    assert tickets.redeem(late) is None


def test_what_was_never_given_is_none(tickets: Tickets) -> None:
    assert tickets.redeem("") is None
    assert tickets.redeem("\ud800") is None


def test_one_key_cannot_take_the_room_of_others(tickets: Tickets, clock: Clock) -> None:
    given = [tickets.give(principal()) for _ in range(TICKETS_OF_A_KEY_MAX)]
    with pytest.raises(TooManyTickets):
        tickets.give(principal())
    tickets.give(principal("other"))
    tickets.redeem(given[0])
    tickets.give(principal())
    clock.now_s = VALID_S
    tickets.give(principal())


def test_all_together_are_bounded(tickets: Tickets) -> None:
    for number in range(module.TICKETS_MAX):
        tickets.give(principal(f"key-{number}"))
    with pytest.raises(TooManyTickets):
        tickets.give(principal("one more"))
