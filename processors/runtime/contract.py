"""
The contract between the runtime and a group's own code: a reader, a handler, and the outcomes of records.

A `Reader` decodes and validates the records of a slice, a `Handler` brings about their effect. Every record that a
group consumes ends in exactly one `Outcome`, and each is counted.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

import msgspec

from processors.runtime.batch import RawRecord
from schemas.errors import Poison, Reason, Rejection

R = TypeVar("R")


class Outcome(StrEnum):
    """The end of a record."""

    DONE = "done"
    DUPLICATE = "duplicate"  # the same content has another place in the log
    REDELIVERY = "redelivery"  # this very place was handled before
    REJECTED = "rejected"  # breaks a rule; persistence keeps it with its bytes and the reason
    FILTERED = "filtered"  # not asked for
    SKIPPED = "skipped"  # a person said that it is not to be handled
    DEFERRED = "deferred"  # waits in a delay tier to be tried again
    DEAD_LETTER = "dead_letter"  # can never be handled; its bytes are in the dead-letter topic


Tally = Counter[tuple[Outcome, Reason | None]]
"""Count of each outcome; the reason is None where the outcome has none."""


class Arrival(msgspec.Struct, Generic[R], frozen=True, gc=False):
    """A record that decodes, with its place, its headers, and why it is not valid (None: it is)."""

    raw: RawRecord
    headers: Mapping[str, bytes | None]
    record: R
    rejection: Rejection | None
    is_sealed: bool = False  # a gateway of ours wrote it


class Unreadable(NamedTuple):
    """A record that is poison, and how many readable ones of its slice precede it."""

    raw: RawRecord
    poison: Poison
    readable_before: int


class Reading(NamedTuple, Generic[R]):
    """The records of a slice, in log order: those that decode, and poison."""

    arrivals: Sequence[Arrival[R]]
    unreadable: Sequence[Unreadable]


Reader = Callable[[Sequence[RawRecord]], Reading[R]]
"""Decode and validate the records of a slice; `processors.runtime.reading` makes one."""


class FailedRecord(msgspec.Struct, Generic[R], frozen=True, gc=False):
    """A record that did not come to its effect, though others of its slice did."""

    arrival: Arrival[R]
    reason: Reason
    detail: str


class Settled(NamedTuple, Generic[R]):
    """A handler's answer: each record of the slice is in exactly one of the three."""

    tally: Tally
    retry_later: Sequence[FailedRecord[R]] = ()  # next delay tier; dead letters if there is none
    dead: Sequence[FailedRecord[R]] = ()


Handler = Callable[[Sequence[Arrival[R]]], Awaitable[Settled[R]]]
"""
Bring about the effect of consecutive records of one partition.

On return every effect in the tally is durable. Called again with the same records after a failure of any kind, so each
effect must be harmless to repeat.

Raises:
    Transient: what it needs is away. The same records come again.
    Poison: one of the records can never be handled; nothing was done. Smaller slices come until it is found.
"""
