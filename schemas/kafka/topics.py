"""
Topics and consumer groups as Kafka has them, and how the topics of a group follow from it.

`<source>.<group>.dlq` holds what the group gave up on, `<source>.<group>.redrive` what an operator sends back to it,
`<source>.<group>.retry.<delay>` what waits. A domain declares its own in its `topics.py`; `schemas.catalogue` has all.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from schemas.kafka.codec import RecordType

MIB = 1024 * 1024
GROUP_PREFIX = "tidegate."
DAY_MS = 24 * 60 * 60 * 1000

# An event body of 10 MiB, its Avro frame and headers. Producers and fetch sizes follow this figure.
RECORD_BYTES_MAX = 11 * MIB
LETTER_BYTES_MAX = RECORD_BYTES_MAX + MIB  # the headers that say why come on top

DELAY_PATTERN = r"[1-9][0-9]{0,3}[smh]"
_UNITS_S = {"s": 1, "m": 60, "h": 3600}


class Cleanup(StrEnum):
    """The broker's policy for dropping old records (Kafka's `cleanup.policy`)."""

    DELETE = "delete"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One Kafka topic: what it carries and how the broker keeps it."""

    name: str
    records: tuple[RecordType[Any], ...]
    key: str  # what the record key is, in words
    partitions: int | None  # None: as many as the deployment's setting says; then never changed
    retention_ms: int | None  # None: kept for ever
    cleanup: Cleanup = Cleanup.DELETE
    record_bytes_max: int = RECORD_BYTES_MAX

    def broker_config(self) -> dict[str, str]:
        """Return the topic-level settings in Kafka's own names."""
        return {
            "cleanup.policy": self.cleanup,
            "retention.ms": str(-1 if self.retention_ms is None else self.retention_ms),
            "max.message.bytes": str(self.record_bytes_max),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A topic in which records wait before they are tried again."""

    topic: Topic
    delay_s: int  # after the record was written


class Start(StrEnum):
    """The position at which a new group begins."""

    OLDEST = "oldest"  # its effect is owed to every record
    NEWEST = "newest"  # what came before it is asked for by a replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One consumer group: one effect of one topic's records."""

    name: str  # what operators type, and topics have in their names: persistence
    source: Topic
    beside: tuple[Topic, ...] = ()  # further sources of the same records, such as lanes of other priorities
    delays: tuple[str, ...] = ()  # of its tiers, the shortest first: 30s, 5m, 1h
    start: Start = Start.OLDEST
    replay_id: str | None = None  # of a group that repeats part of the source beside the live one
    family: str | None = None  # of a member of a `GroupFamily`: its prefix
    member: str | None = None  # and the part of the name that follows

    @property
    def id(self) -> str:
        """Return Kafka's group.id."""
        return f"{GROUP_PREFIX}{self.name}" + ("" if self.replay_id is None else f".replay.{self.replay_id}")

    def replaying(self, replay_id: str) -> "Group":
        """Return the group that repeats part of this one's source beside it."""
        return replace(self, replay_id=replay_id)

    @property
    def sources(self) -> tuple[Topic, ...]:
        """Return what the group consumes: a live one also what waited, and what an operator sends back to it."""
        if self.replay_id is not None:
            return (self.source,)
        return (self.source, *self.beside, self.redrive, *(tier.topic for tier in self.tiers))

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """Return where the group puts records that are to be tried again later, the shortest delay first."""
        return tuple(Tier(topic=self._letters(f"retry.{delay}"), delay_s=delay_s(delay)) for delay in self.delays)

    @property
    def dead_letters(self) -> Topic:
        """Return where the group puts records that it can never process, bytes unchanged."""
        return self._letters("dlq")

    @property
    def redrive(self) -> Topic:
        """Return where an operator puts dead letters for this group alone to handle once more."""
        return self._letters("redrive")

    @property
    def settled(self) -> Topic:
        """
        Return which dead letters were sent back or dropped; the record has no value, its headers say what was done.
        """
        return Topic(
            name=f"{self.dead_letters.name}.settled",
            records=(),
            key="partition/offset of the dead letter",
            partitions=1,
            retention_ms=2 * 30 * DAY_MS,  # outlives the dead letter
        )

    def _letters(self, suffix: str) -> Topic:
        return Topic(
            name=f"{self.source.name}.{self.name}.{suffix}",
            records=self.source.records,
            key=self.source.key,
            partitions=1,
            retention_ms=30 * DAY_MS,
            record_bytes_max=LETTER_BYTES_MAX,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFamily:
    """
    Groups that a deployment adds as it needs them: one for each webhook endpoint, one for each archived topic.

    Which members there are, and which delays each has, a cluster's topics say (`members_among`): so only the command
    that makes topics and the member's own worker need its settings, which may hold secrets.
    """

    prefix: str  # of the members' names: evaluation
    sources: tuple[Topic, ...]  # that a member may consume
    member_pattern: str
    delays: tuple[str, ...] = ()
    start: Start = Start.OLDEST

    def group(self, member: str, *, source: Topic | None = None, delays: Iterable[str] | None = None) -> Group:
        """Return the group of *member*; without *source* it consumes the one of its name, or the family's first."""
        own = next((each for each in self.sources if each.name == member), self.sources[0])
        return Group(
            name=f"{self.prefix}.{member}",
            source=own if source is None else source,
            delays=tuple(sorted(self.delays if delays is None else delays, key=delay_s)),
            start=self.start,
            family=self.prefix,
            member=member,
        )

    def find(self, name: str) -> Group | None:
        """Return the group of that name, whether a cluster has it or not; None if no member can have the name."""
        prefix, _, member = name.partition(".")
        return self.group(member) if prefix == self.prefix and re.fullmatch(self.member_pattern, member) else None

    def members_among(self, topic_names: Iterable[str]) -> Iterator[Group]:
        """Yield the members of a cluster that has these topics, by name."""
        names = sorted(topic_names)
        for source in self.sources:
            pattern = re.compile(
                rf"{re.escape(source.name)}\.{re.escape(self.prefix)}\.(?P<member>{self.member_pattern})"
                rf"\.(?:dlq|dlq\.settled|redrive|retry\.(?P<delay>{DELAY_PATTERN}))\Z"
            )
            delays: dict[str, list[str]] = {}
            for name in names:
                if found := pattern.match(name):
                    delays.setdefault(found["member"], []).extend([found["delay"]] if found["delay"] else [])
            yield from (self.group(member, source=source, delays=each) for member, each in delays.items())


def delay_s(delay: str) -> int:
    """Return the seconds of a delay such as 30s, 5m or 1h."""
    return int(delay[:-1]) * _UNITS_S[delay[-1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """The declarations of one domain: a line in `schemas.catalogue`."""

    name: str
    topics: tuple[Topic, ...]  # those of its groups follow from them
    groups: tuple[Group, ...]
    families: tuple[GroupFamily, ...] = ()
    optional_groups: tuple[Group, ...] = ()  # of deployments that ask for them: a cluster's topics say so
