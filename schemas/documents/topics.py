"""The topics and the consumer groups of documents."""

from schemas.documents.codec import COMMANDS, DOCUMENT_CHANGED, DOCUMENT_EMBEDDED, DOCUMENT_WORK
from schemas.documents.states import Lane
from schemas.kafka.topics import DAY_MS, Cleanup, Domain, Group, Topic

KEY = "tenant/collection/document"

DOCUMENT_COMMANDS = Topic(
    name="document.commands",
    records=COMMANDS,
    key=f"{KEY}; of a change of a collection tenant/collection, of its deletion tenant/collection//share",
    partitions=None,
    retention_ms=7 * DAY_MS,
)
DOCUMENT_WORK_LANES = {
    lane: Topic(
        name=f"document.work.{lane}",
        records=(DOCUMENT_WORK,),
        key=KEY,
        partitions=None,
        retention_ms=7 * DAY_MS,
    )
    for lane in Lane
}
EMBEDDED_DOCUMENTS = Topic(
    name="document.embedded", records=(DOCUMENT_EMBEDDED,), key=KEY, partitions=None, retention_ms=7 * DAY_MS
)
DOCUMENT_EVENTS = Topic(
    name="document.events",
    records=(DOCUMENT_CHANGED,),
    key=KEY,
    partitions=None,
    retention_ms=7 * DAY_MS,
    cleanup=Cleanup.DELETE,
)

INTAKE = Group(name="documents.intake", source=DOCUMENT_COMMANDS)
"""Turns commands into rows, and into work."""

EMBED = Group(
    name="documents.embed",
    source=DOCUMENT_WORK_LANES[Lane.NORMAL],
    beside=(DOCUMENT_WORK_LANES[Lane.HIGH], DOCUMENT_WORK_LANES[Lane.LOW]),
    delays=("30s", "5m", "1h"),
)
"""Parses, chunks and embeds."""

STORE = Group(name="documents.store", source=EMBEDDED_DOCUMENTS)
"""Makes versions live."""

DOMAIN = Domain(
    name="documents",
    topics=(DOCUMENT_COMMANDS, *DOCUMENT_WORK_LANES.values(), EMBEDDED_DOCUMENTS, DOCUMENT_EVENTS),
    groups=(INTAKE, EMBED, STORE),
)
