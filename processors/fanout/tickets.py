"""
Tickets: what a web page opens a socket with, since a browser lets it set no header there.

One is worth one socket, for 30 s, and speaks for the key that it was given to. It is known to this process alone.
"""

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from schemas.access.credentials import Principal

VALID_S = 30
TICKETS_MAX = 10_000
TICKETS_OF_A_KEY_MAX = 500
TICKET_BYTES = 24


class TooManyTickets(Exception):
    """A key, or all keys together, have too many that were not used. Answer 429."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ticket:
    principal: Principal
    valid_until_s: float


class Tickets:
    """The tickets that may still be used."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        """Start without tickets; *clock* is a monotonic one."""
        self._clock = clock
        self._valid: dict[bytes, _Ticket] = {}  # by digest, in the order of their making, so of their end
        self._of_key: Counter[str] = Counter()

    def give(self, principal: Principal) -> str:
        """
        Make a ticket for *principal*.

        Raises:
            TooManyTickets: until some are used, or have run out.
        """
        self._forget_old()
        if len(self._valid) >= TICKETS_MAX or self._of_key[principal.key_id] >= TICKETS_OF_A_KEY_MAX:
            raise TooManyTickets
        text = secrets.token_urlsafe(TICKET_BYTES)
        self._valid[_digest(text)] = _Ticket(principal=principal, valid_until_s=self._clock() + VALID_S)
        self._of_key[principal.key_id] += 1
        return text

    def redeem(self, text: str) -> Principal | None:
        """Return who the ticket speaks for; None if there is no such ticket; it is used up."""
        self._forget_old()
        ticket = self._valid.pop(_digest(text), None)
        if ticket is None:
            return None
        self._count_down(ticket)
        return ticket.principal

    def _forget_old(self) -> None:
        now_s = self._clock()
        while self._valid:
            first = next(iter(self._valid))
            if self._valid[first].valid_until_s > now_s:
                return
            self._count_down(self._valid.pop(first))

    def _count_down(self, ticket: _Ticket) -> None:
        key_id = ticket.principal.key_id
        self._of_key[key_id] -= 1
        if not self._of_key[key_id]:
            del self._of_key[key_id]


def _digest(text: str) -> bytes:
    # Looked up by its digest, so that how long a look takes tells nothing of those that are there.
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
