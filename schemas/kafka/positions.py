"""
A consumer group's position in a partition, and whether the log still holds what it stands for.

A committed offset alone cannot tell: a log that was cut off (a power cut, an unclean leader election) or deleted and
created again gives old offsets to new records. So each commit carries a mark as its metadata: the topic's id, and the
last record handled before the offset, by its offset, its leader epoch (KIP-101) and a digest. A log is only ever cut
off by a change of leader, so a mark needs a look at its record only where the log has come to a later epoch.

Where a position has outlived its log the group stops there, until an operator accepts the log as it is
(`tidegate topics accept`). A group with members refuses commits of others, so what is accepted is committed under a
group id beside it (`accepting_group`), which has no members; the worker that is assigned the partition takes it over.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import msgspec

DIGEST_BYTES = 8


class Mark(msgspec.Struct, frozen=True):
    """The last record that a group handled before the offset that it committed."""

    topic: str  # Kafka's id of the topic, as `schemas.kafka.cursors.topic_id` spells it
    offset: int
    epoch: int  # of the leader that appended the record
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A position that a group committed in a partition."""

    offset: int | None  # None: nothing
    metadata: str = ""

    @property
    def mark(self) -> Mark | None:
        """
        Return the mark that was committed with the offset; None if there is none: a first offset, or one set by a tool.
        """
        try:
            return _DECODER.decode(self.metadata) if self.metadata else None
        except msgspec.DecodeError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLog:
    """The extent of one partition now."""

    topic: str  # Kafka's id of the topic
    first: int
    stable_end: int  # the last stable offset: where the first open transaction begins, else `end`
    end: int  # the high watermark: the offset after the last record
    epoch: int  # of the leader that appends now


NO_EPOCH = -1


def lost_mark(topic: str, offset: int) -> Mark:
    """
    Return the mark of a committed *offset* that had none, in a log that has ended before it: no record matches it.
    """
    return Mark(topic=topic, offset=max(0, offset - 1), epoch=NO_EPOCH, digest="lost")


class PositionFault(StrEnum):
    """The reason why a position no longer stands for what the group has handled."""

    BEYOND_END = "beyond_end"
    REWRITTEN = "rewritten"
    RECREATED = "recreated"


EXPLANATIONS = {
    PositionFault.BEYOND_END: "the log ends before what was committed",
    PositionFault.REWRITTEN: "the log was cut off and written again before what was committed",
    PositionFault.RECREATED: "the topic was deleted and created again",
}
WAY_ON = "see that no other copy of the log exists, then run `tidegate topics accept`"

_DECODER = msgspec.json.Decoder(Mark)


def metadata(mark: Mark | None) -> str:
    """Return the metadata that is committed beside an offset."""
    return "" if mark is None else msgspec.json.encode(mark).decode()


def digest(timestamp_ms: int, key: bytes | None, value: bytes | None) -> str:
    """Return the digest of a record by which a mark knows it again."""
    parts = hashlib.blake2b(str(timestamp_ms).encode(), digest_size=DIGEST_BYTES)
    for part in (key, value):
        parts.update(b"-" if part is None else b"%d:" % len(part))
        parts.update(part or b"")
    return parts.hexdigest()


def fault(position: Position, log: PartitionLog, digest_at: Callable[[int], str | None]) -> PositionFault | None:
    """
    Return the reason why *position* has outlived *log*; None if it has not, as far as its mark can show.

    *digest_at* is the digest of the record that the log has at an offset now, None where it has none; it is called
    only where the log has come to a later leader epoch than the mark's.
    """
    mark = position.mark
    if mark is not None and mark.topic != log.topic:
        return PositionFault.RECREATED
    if position.offset is not None and position.offset > log.end:
        return PositionFault.BEYOND_END
    if mark is None or mark.offset < log.first or mark.epoch == log.epoch:
        return None
    return None if digest_at(mark.offset) == mark.digest else PositionFault.REWRITTEN


def accepting_group(group_id: str) -> str:
    """Return the group id under which an operator commits where the group *group_id* is to go on."""
    return f"{group_id}.accepted"


class AcceptedPosition(msgspec.Struct, frozen=True):
    """The metadata of an accepted position: which position it replaces, so that it is taken over once."""

    replaces: int | None
    metadata: str
    topic: str = ""  # Kafka's id of the topic that was accepted; "" in those of releases that did not note it


_ACCEPTED_DECODER = msgspec.json.Decoder(AcceptedPosition)


def accepted_metadata(replaced: Position, topic_id: str) -> str:
    """Return the metadata with which a position that replaces *replaced* in the topic of that id is committed."""
    return msgspec.json.encode(AcceptedPosition(replaced.offset, replaced.metadata, topic_id)).decode()


def is_accepted(order: Position, position: Position, topic_id: str | None) -> bool:
    """
    Return True if *order*, as committed under the accepting group, replaces *position* in the topic of that id.

    Where the topic was recreated, it replaces whatever is committed of the topic before: a worker that had not noticed
    yet may have committed after the operator had accepted.
    """
    try:
        accepted = _ACCEPTED_DECODER.decode(order.metadata) if order.offset is not None else None
    except msgspec.DecodeError:
        return False
    if accepted is None or accepted.topic not in ("", topic_id):
        return False
    if (accepted.replaces, accepted.metadata) == (position.offset, position.metadata):
        return True
    is_of_before = position.offset is None or (position.mark is not None and position.mark.topic != topic_id)
    return accepted.topic == topic_id and is_of_before
