"""
Every topic and consumer group, declared once. `tidegate topics create` makes them; nothing else does.

A feature's topics follow from its group: `<source>.<group>.dlq` holds what the group gave up on,
`<source>.<group>.redrive` what an operator sends back to it, `<source>.<group>.retry.<delay>` what waits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from schemas.events import EnvironmentCaptured, Record, RunEvent, RunFinalized, TraceRecord

MIB = 1024 * 1024
DAY_MS = 24 * 60 * 60 * 1000

# An event body of 10 MiB, its Avro frame and headers. Producers and fetch sizes follow this figure.
RECORD_BYTES_MAX = 11 * MIB
LETTER_BYTES_MAX = RECORD_BYTES_MAX + MIB  # the headers that say why come on top


class Cleanup(StrEnum):
    """How the broker drops old records (Kafka's `cleanup.policy`)."""

    DELETE = "delete"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One Kafka topic: what it carries and how the broker keeps it."""

    name: str
    records: tuple[type[Record], ...]
    key: str  # what the record key is, in words
    partitions: int | None  # None: as many as the deployment's setting says; then never changed
    retention_ms: int | None  # None: kept for ever
    cleanup: Cleanup = Cleanup.DELETE
    record_bytes_max: int = RECORD_BYTES_MAX

    def broker_config(self) -> dict[str, str]:
        """The topic-level settings in Kafka's own names."""
        return {
            "cleanup.policy": self.cleanup,
            "retention.ms": str(-1 if self.retention_ms is None else self.retention_ms),
            "max.message.bytes": str(self.record_bytes_max),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One consumer group: one effect of one topic's records."""

    name: str  # what operators type and topics bear: persistence
    source: Topic
    replay_id: str | None = None  # of a group that repeats part of the source beside the live one

    @property
    def id(self) -> str:
        """Kafka's group.id."""
        return f"tidegate.{self.name}" if self.replay_id is None else f"tidegate.{self.name}.replay.{self.replay_id}"

    @property
    def sources(self) -> tuple[Topic, ...]:
        """What the group consumes: a live one also what an operator sends back to it."""
        return (self.source, self.redrive) if self.replay_id is None else (self.source,)

    @property
    def dead_letters(self) -> Topic:
        """Where the group puts records that it can never process, bytes unchanged."""
        return self._letters("dlq")

    @property
    def redrive(self) -> Topic:
        """Where an operator puts dead letters for this group alone to handle once more."""
        return self._letters("redrive")

    @property
    def settled(self) -> Topic:
        """Which dead letters were sent back or dropped; the record has no value, its headers say what was done."""
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


RUN_EVENTS = Topic(
    name="run.events",
    records=(RunEvent, EnvironmentCaptured, RunFinalized),
    key="run_id",
    partitions=None,
    retention_ms=7 * DAY_MS,
)
RUN_TRACES = Topic(
    name="run.traces",
    records=(TraceRecord,),
    key="tenant/run_id",  # a run id is unique within a tenant only, and compaction keeps one record a key
    partitions=None,
    retention_ms=None,
    cleanup=Cleanup.COMPACT,
)

PERSISTENCE = Group(name="persistence", source=RUN_EVENTS)

GROUPS: tuple[Group, ...] = (PERSISTENCE,)


def all_topics() -> Iterator[Topic]:
    """Every topic that a deployment needs."""
    yield RUN_EVENTS
    yield RUN_TRACES
    for group in GROUPS:
        yield from (group.dead_letters, group.redrive, group.settled)


def subscriptions() -> Iterator[tuple[Group, Topic]]:
    """Every group with each topic that it consumes."""
    return ((group, topic) for group in GROUPS for topic in group.sources)


def find_group(name: str) -> Group | None:
    """The declared group of that name, or None."""
    return next((group for group in GROUPS if group.name == name), None)


def find_topic(name: str) -> Topic | None:
    """The declared topic of that name, or None."""
    return next((topic for topic in all_topics() if topic.name == name), None)
