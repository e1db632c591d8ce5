"""
Every topic and consumer group, declared once. `tidegate topics create` makes them; nothing else does.

A feature's topics follow from its group: `<source>.<group>.dlq` holds what the group gave up on,
`<source>.<group>.redrive` what an operator sends back to it, `<source>.<group>.retry.<delay>` what waits.

Each endpoint of the evaluation engine has a group of its own. Which endpoints there are, and which delays, a cluster's
topics say (`groups_among`): so only the command that makes topics and the endpoint's own worker read the endpoints
file with its secrets.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from schemas.events import EndpointState, EnvironmentCaptured, Record, RunEvent, RunFinalized, TraceRecord

MIB = 1024 * 1024
GROUP_PREFIX = "tidegate."
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
class Tier:
    """A topic in which records wait before they are tried again."""

    topic: Topic
    delay_s: int  # after the record was written


class Start(StrEnum):
    """Where a group that is new begins."""

    OLDEST = "oldest"  # its effect is owed to every record
    NEWEST = "newest"  # what came before it is asked for by a replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One consumer group: one effect of one topic's records."""

    name: str  # what operators type and topics bear: persistence
    source: Topic
    delays: tuple[str, ...] = ()  # of its tiers, the shortest first: 30s, 5m, 1h
    start: Start = Start.OLDEST
    replay_id: str | None = None  # of a group that repeats part of the source beside the live one

    @property
    def id(self) -> str:
        """Kafka's group.id."""
        return f"{GROUP_PREFIX}{self.name}" + ("" if self.replay_id is None else f".replay.{self.replay_id}")

    @property
    def endpoint(self) -> str | None:
        """The endpoint whose group this is; None for the others."""
        return self.name.removeprefix(EVALUATION) if self.name.startswith(EVALUATION) else None

    @property
    def sources(self) -> tuple[Topic, ...]:
        """What the group consumes: a live one also what waited, and what an operator sends back to it."""
        if self.replay_id is not None:
            return (self.source,)
        return (self.source, self.redrive, *(tier.topic for tier in self.tiers))

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """Where the group puts records that are to be tried again later, the shortest delay first."""
        return tuple(Tier(topic=self._letters(f"retry.{delay}"), delay_s=delay_s(delay)) for delay in self.delays)

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

ENDPOINT_STATES = Topic(
    name="evaluation.endpoints",
    records=(EndpointState,),
    key="endpoint",
    partitions=1,
    retention_ms=None,
    cleanup=Cleanup.COMPACT,
)

PERSISTENCE = Group(name="persistence", source=RUN_EVENTS)

GROUPS: tuple[Group, ...] = (PERSISTENCE,)
"""The groups of every deployment; those of endpoints come on top."""

EVALUATION = "evaluation."
DELAYS = ("30s", "5m", "1h")
ENDPOINT_PATTERN = r"[a-z0-9][a-z0-9-]{0,62}"
DELAY_PATTERN = r"[1-9][0-9]{0,3}[smh]"
_UNITS_S = {"s": 1, "m": 60, "h": 3600}
_ENDPOINT = re.compile(rf"{ENDPOINT_PATTERN}\Z")
_ENDPOINT_TOPIC = re.compile(
    rf"{re.escape(RUN_EVENTS.name)}\.evaluation\.(?P<endpoint>{ENDPOINT_PATTERN})"
    rf"\.(?P<part>dlq|dlq\.settled|redrive|retry\.(?P<delay>{DELAY_PATTERN}))\Z"
)


def trace_key(tenant: str, run_id: str) -> bytes:
    """The key of a run's record on `run.traces`."""
    return f"{tenant}/{run_id}".encode()


def evaluation(endpoint: str, delays: Iterable[str] = DELAYS) -> Group:
    """The group of one endpoint of the evaluation engine."""
    return Group(
        name=f"{EVALUATION}{endpoint}",
        source=RUN_EVENTS,
        delays=tuple(sorted(delays, key=delay_s)),
        start=Start.NEWEST,
    )


def delay_s(delay: str) -> int:
    """The seconds of a delay such as 30s, 5m or 1h."""
    return int(delay[:-1]) * _UNITS_S[delay[-1]]


def groups_among(topic_names: Iterable[str]) -> tuple[Group, ...]:
    """The groups of a cluster that has these topics."""
    delays: dict[str, list[str]] = {}
    for name in sorted(topic_names):
        if found := _ENDPOINT_TOPIC.match(name):
            delays.setdefault(found["endpoint"], []).extend([found["delay"]] if found["delay"] else [])
    return (*GROUPS, *(evaluation(endpoint, each) for endpoint, each in delays.items()))


def all_topics(groups: Iterable[Group] = GROUPS) -> Iterator[Topic]:
    """Every topic that a deployment with *groups* needs."""
    yield from (RUN_EVENTS, RUN_TRACES, ENDPOINT_STATES)
    for group in groups:
        yield from (group.dead_letters, group.redrive, group.settled)
        yield from (tier.topic for tier in group.tiers)


def subscriptions(groups: Iterable[Group] = GROUPS) -> Iterator[tuple[Group, Topic]]:
    """Every one of *groups* with each topic that it consumes."""
    return ((group, topic) for group in groups for topic in group.sources)


def find_group(name: str) -> Group | None:
    """The group of that name, or None; whether an endpoint's exists, only a cluster says."""
    endpoint = name.removeprefix(EVALUATION)
    if endpoint != name and _ENDPOINT.match(endpoint):
        return evaluation(endpoint)
    return next((group for group in GROUPS if group.name == name), None)


def find_topic(name: str) -> Topic | None:
    """The topic of that name, or None; whether an endpoint's exists, only a cluster says."""
    return next((topic for topic in all_topics(groups_among([name])) if topic.name == name), None)
