"""The topics and consumer groups of runs."""

from schemas.kafka.topics import DAY_MS, Cleanup, Domain, Group, GroupFamily, Start, Topic
from schemas.runs.codec import ENDPOINT_STATE, ENVIRONMENT_CAPTURED, RUN_EVENT, RUN_FINALIZED, TRACE_RECORD

RUN_EVENTS = Topic(
    name="run.events",
    records=(RUN_EVENT, ENVIRONMENT_CAPTURED, RUN_FINALIZED),
    key="run_id",
    partitions=None,
    retention_ms=7 * DAY_MS,
)
RUN_TRACES = Topic(
    name="run.traces",
    records=(TRACE_RECORD,),
    key="tenant/run_id",  # a run id is unique within a tenant only, and compaction keeps one record a key
    partitions=None,
    retention_ms=None,
    cleanup=Cleanup.COMPACT,
)
ENDPOINT_STATES = Topic(
    name="evaluation.endpoints",
    records=(ENDPOINT_STATE,),
    key="endpoint",
    partitions=1,
    retention_ms=None,
    cleanup=Cleanup.COMPACT,
)

PERSISTENCE = Group(name="persistence", source=RUN_EVENTS)
EVALUATION = GroupFamily(
    prefix="evaluation",
    sources=(RUN_EVENTS,),
    member_pattern=r"[a-z0-9][a-z0-9-]{0,62}",
    delays=("30s", "5m", "1h"),
    start=Start.NEWEST,
)
"""A group for each endpoint of the evaluation engine."""

DOMAIN = Domain(
    name="runs",
    topics=(RUN_EVENTS, RUN_TRACES, ENDPOINT_STATES),
    groups=(PERSISTENCE,),
    families=(EVALUATION,),
)


def trace_key(tenant: str, run_id: str) -> bytes:
    """Return the key of a run's record on `run.traces`."""
    return f"{tenant}/{run_id}".encode()


def endpoint_of(group: Group) -> str | None:
    """Return the endpoint whose group *group* is; None if it is of another family or of none."""
    return group.member if group.family == EVALUATION.prefix else None
