"""The metrics of the process that archives a topic."""

from schemas.process.telemetry import OF_PROCESSORS, Kind, Metric

ARCHIVE_OBJECTS = Metric(
    name="tidegate_archive_objects_total",
    kind=Kind.COUNTER,
    help="Objects of the archive: created, adopted (another worker had created it) or removed (by retention)",
    labels=("topic", "what"),
)
ARCHIVE_BYTES = Metric(
    name="tidegate_archive_bytes_total",
    kind=Kind.COUNTER,
    help="Bytes of the objects that were created",
    labels=("topic",),
)
ARCHIVE_PUT_DURATION = Metric(
    name="tidegate_archive_put_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="From the start of a put until its object is in object storage, retries included",
    labels=("topic",),
    buckets=(0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0),
)
ARCHIVE_SPOOLED = Metric(
    name="tidegate_archive_spooled_bytes",
    kind=Kind.GAUGE,
    help="Bytes that are gathered in spool files and not yet put",
    labels=("topic",),
)
OF_ARCHIVE = (
    *OF_PROCESSORS,
    ARCHIVE_OBJECTS,
    ARCHIVE_BYTES,
    ARCHIVE_PUT_DURATION,
    ARCHIVE_SPOOLED,
)
