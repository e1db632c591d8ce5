"""The consumer groups of sinks; their topics are those of user events and of runs."""

from dataclasses import replace

from schemas.events.topics import USER_EVENTS
from schemas.kafka.topics import Domain, Group, GroupFamily
from schemas.runs.topics import RUN_EVENTS

SINK = GroupFamily(
    prefix="sink",
    sources=(USER_EVENTS, RUN_EVENTS),
    member_pattern=r"[a-z0-9][a-z0-9-]{0,62}",
)
"""A group for each sink: every record of its source is owed to it."""

DOMAIN = Domain(name="sinks", topics=(), groups=(), families=(SINK,))


def skipping(group: Group) -> Group:
    """Return the group whose offsets are orders to a sink's *group*: what precedes them is skipped if it fails."""
    return replace(group, name=f"{group.name}.skip")


def sink_of(group: Group) -> str | None:
    """Return the sink whose group *group* is; None if it is of another family or of none."""
    return group.member if group.family == SINK.prefix else None
