"""The topic and consumer groups of user events."""

from schemas.events.codec import USER_EVENT
from schemas.kafka.topics import DAY_MS, Domain, Group, Start, Topic

USER_EVENTS = Topic(
    name="user.events",
    records=(USER_EVENT,),
    key="run_id, tenant/user_id, tenant/anonymous_id or tenant/session_id, or event_id: the first that is there",
    partitions=None,  # as many as run.events: a run has one partition of both
    retention_ms=7 * DAY_MS,
)

EVENTS = Group(name="events", source=USER_EVENTS)
"""Stores the rows."""

PROCESSING = Group(name="processing", source=USER_EVENTS, delays=("2s", "4s", "8s"), start=Start.NEWEST)
"""Runs the processing functions; a deployment without any has no such group."""

DOMAIN = Domain(name="events", topics=(USER_EVENTS,), groups=(EVENTS,), optional_groups=(PROCESSING,))
