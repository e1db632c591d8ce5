"""What became of a record: every record that a group consumes ends in exactly one of these, and each is counted."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum

import msgspec

from processors.runtime.batch import RawRecord
from schemas.errors import Poison, Reason
from schemas.runs.records import RunRecord
from schemas.runs.validity import Rejection


class Outcome(StrEnum):
    """What became of a record."""

    DONE = "done"
    DUPLICATE = "duplicate"  # the same content stands at another place in the log
    REDELIVERY = "redelivery"  # this very place was handled before
    REJECTED = "rejected"  # breaks a rule; persistence keeps it with its bytes and the reason
    FILTERED = "filtered"  # not asked for
    DEFERRED = "deferred"  # waits in a delay tier to be tried again
    DEAD_LETTER = "dead_letter"  # can never be handled; its bytes are in the dead-letter topic


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """A record that decodes, with its place, its headers and what validity says of it (None: valid)."""

    raw: RawRecord
    headers: Mapping[str, bytes | None]
    record: RunRecord
    rejection: Rejection | None
    is_sealed: bool = False  # a gateway of ours wrote it


# How often each (outcome, reason) came about; reason is None where the outcome needs none.
Tally = Counter[tuple[Outcome, Reason | None]]


class Failure(msgspec.Struct, frozen=True, gc=False):
    """A record that did not come to its effect, though others did."""

    arrival: Arrival
    poison: Poison
    again: bool  # True: it may later, so that it waits in the next delay tier while there is one


class SomeFailed(Exception):
    """Every record of the slice is done, as *tally* says, but for *failures*. Defer or dead-letter those."""

    def __init__(self, tally: Tally, failures: Sequence[Failure]) -> None:
        """Carry both."""
        super().__init__(f"{len(failures)} records failed by themselves")
        self.tally = tally
        self.failures = failures


Handler = Callable[[Sequence[Arrival]], Awaitable[Tally]]
"""
Bring about the effect of consecutive records of one partition.

On return every effect is durable. Called again with the same records after a failure of any kind, so each effect must
be harmless to repeat.

Raises:
    Transient: what it needs is away. The same records come again.
    Poison: one of the records can never be handled; nothing was done. Smaller slices come until it is found.
    SomeFailed: all is done but for the records that it names.
"""
