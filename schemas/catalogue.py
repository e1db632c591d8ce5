"""
Everything that the domains declare: for `tidegate topics create`, and for tools that handle any topic or group.

Topics are made by that command alone; brokers make none by themselves.
"""

from collections.abc import Iterable, Iterator

import msgspec

from schemas.archive import topics as archive
from schemas.documents import topics as documents
from schemas.events import topics as events
from schemas.jobs import topics as jobs
from schemas.kafka.codec import Codec
from schemas.kafka.topics import Domain, Group, Topic
from schemas.runs import topics as runs
from schemas.sinks import topics as sinks

DOMAINS: tuple[Domain, ...] = (
    *(runs.DOMAIN, events.DOMAIN, documents.DOMAIN, jobs.DOMAIN),
    *(sinks.DOMAIN, archive.DOMAIN),
)

CODEC: Codec[msgspec.Struct] = Codec(
    record for domain in DOMAINS for topic in domain.topics for record in topic.records
)

GROUPS: tuple[Group, ...] = tuple(group for domain in DOMAINS for group in domain.groups)
"""The groups of every deployment; optional ones and members of families come on top."""

OPTIONAL_GROUPS: tuple[Group, ...] = tuple(group for domain in DOMAINS for group in domain.optional_groups)


def all_topics(groups: Iterable[Group] = GROUPS) -> Iterator[Topic]:
    """Yield every topic that a deployment with *groups* needs."""
    yield from (topic for domain in DOMAINS for topic in domain.topics)
    for group in groups:
        yield from (group.dead_letters, group.redrive, group.settled)
        yield from (tier.topic for tier in group.tiers)


def subscriptions(groups: Iterable[Group] = GROUPS) -> Iterator[tuple[Group, Topic]]:
    """Yield every one of *groups* with each topic that it consumes."""
    return ((group, topic) for group in groups for topic in group.sources)


def groups_among(topic_names: Iterable[str]) -> tuple[Group, ...]:
    """Return the groups of a cluster that has these topics."""
    names = frozenset(topic_names)
    families = (family for domain in DOMAINS for family in domain.families)
    return (
        *GROUPS,
        *(group for group in OPTIONAL_GROUPS if group.dead_letters.name in names),
        *(group for family in families for group in family.members_among(names)),
    )


def find_group(name: str) -> Group | None:
    """Return the group of that name, or None; only a cluster's topics say whether a member of a family exists."""
    families = (family for domain in DOMAINS for family in domain.families)
    members = (family.find(name) for family in families)
    return next(
        (group for group in (*GROUPS, *OPTIONAL_GROUPS, *members) if group is not None and group.name == name), None
    )


def find_topic(name: str) -> Topic | None:
    """Return the topic of that name, or None; only a cluster says whether that of a family's member exists."""
    groups = (*groups_among([name]), *OPTIONAL_GROUPS)
    return next((topic for topic in all_topics(groups) if topic.name == name), None)
