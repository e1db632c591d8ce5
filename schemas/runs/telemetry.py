"""The metrics of the processes that handle runs."""

from schemas.process.telemetry import (
    MAINTENANCE_DONE,
    MAINTENANCE_DURATION,
    OF_PROCESSORS,
    WRONG_PARTITION,
    Kind,
    Metric,
)

WEBHOOKS = Metric(
    name="tidegate_webhooks_total",
    kind=Kind.COUNTER,
    help="Attempts at a webhook, by result",
    labels=("endpoint", "verdict"),
)
WEBHOOK_DURATION = Metric(
    name="tidegate_webhook_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="From the start of an attempt to the end of its answer",
    labels=("endpoint",),
)
WEBHOOK_BREAKER_CLOSED = Metric(
    name="tidegate_webhook_breaker_closed",
    kind=Kind.GAUGE,
    help="1 while webhooks are sent, 0 while the breaker is open or half-open, or the endpoint is disabled",
    labels=("endpoint",),
)
RETENTION_REMOVED = Metric(
    name="tidegate_retention_removed_total",
    kind=Kind.COUNTER,
    help="What retention removed: runs that lost their events, those events, rejected records, objects",
    labels=("what",),
)
RETENTION_REMOVED_BYTES = Metric(
    name="tidegate_retention_removed_bytes_total",
    kind=Kind.COUNTER,
    help="Bytes that retention removed, as they were stored",
)
RETENTION_HELD_RUNS = Metric(
    name="tidegate_retention_held_runs",
    kind=Kind.GAUGE,
    help="Runs old enough for removal that a consumer group has not committed past, at the last run",
)
RUNS_ABANDONED = Metric(
    name="tidegate_runs_abandoned_total",
    kind=Kind.COUNTER,
    help="Open runs marked abandoned because no event came for them",
)

OF_PERSISTENCE = (*OF_PROCESSORS, WRONG_PARTITION)
OF_EVALUATION = (*OF_PROCESSORS, WEBHOOKS, WEBHOOK_DURATION, WEBHOOK_BREAKER_CLOSED)
OF_MAINTENANCE = (
    RETENTION_REMOVED,
    RETENTION_REMOVED_BYTES,
    RETENTION_HELD_RUNS,
    RUNS_ABANDONED,
    MAINTENANCE_DURATION,
    MAINTENANCE_DONE,
)
