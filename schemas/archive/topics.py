"""The consumer groups of the archive: one for each topic that is archived."""

import re

from schemas.documents import topics as documents
from schemas.events import topics as events
from schemas.jobs import topics as jobs
from schemas.kafka.topics import Cleanup, Domain, Group, GroupFamily
from schemas.runs import topics as runs

# Compacted topics are kept for ever in the log itself, and have offsets without records.
ARCHIVABLE = tuple(
    topic
    for domain in (runs.DOMAIN, events.DOMAIN, documents.DOMAIN, jobs.DOMAIN)
    for topic in domain.topics
    if topic.cleanup is Cleanup.DELETE
)

ARCHIVE = GroupFamily(
    prefix="archive",
    sources=ARCHIVABLE,
    member_pattern="|".join(re.escape(topic.name) for topic in ARCHIVABLE),
)
"""A group for each topic that is archived, and named after it."""

DOMAIN = Domain(name="archive", topics=(), groups=(), families=(ARCHIVE,))


def archived_topic(group: Group) -> str | None:
    """Return the topic that *group* archives; None if it archives none."""
    return group.member if group.family == ARCHIVE.prefix else None
