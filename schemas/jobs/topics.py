"""The topics and the consumer group of jobs."""

from schemas.jobs.codec import COMMANDS, JOB_CHANGED, REPORTS
from schemas.kafka.topics import DAY_MS, Cleanup, Domain, Group, Topic

JOB_COMMANDS = Topic(
    name="jobs.commands",
    records=COMMANDS,
    key="job_id; of a change of a queue queue/name, of a schedule its id, of an operation its id",
    partitions=None,
    retention_ms=7 * DAY_MS,
)
JOB_EVENTS = Topic(
    name="jobs.events",
    records=(JOB_CHANGED,),
    key="job_id",
    partitions=None,  # as many as jobs.commands: a job has one partition of each
    retention_ms=None,
    cleanup=Cleanup.COMPACT,
)
JOB_REPORTS = Topic(
    name="jobs.reports",
    records=REPORTS,
    key="job_id",
    partitions=None,
    retention_ms=DAY_MS // 24,  # for whoever watches a job now
)

INTAKE = Group(name="jobs.intake", source=JOB_COMMANDS)
"""Turns commands into rows."""

DOMAIN = Domain(name="jobs", topics=(JOB_COMMANDS, JOB_EVENTS, JOB_REPORTS), groups=(INTAKE,))
