"""The metrics of the processes that handle user events."""

from schemas.process.telemetry import OF_PROCESSORS, WRONG_PARTITION, Kind, Metric

EVENT_CLOCKS = Metric(
    name="tidegate_user_events_clock_total",
    kind=Kind.COUNTER,
    help="Stored user events by their sender's clock: ok, future (over 5 minutes ahead) or stale (over 7 days old)",
    labels=("clock",),
)

OF_EVENTS = (*OF_PROCESSORS, EVENT_CLOCKS, WRONG_PARTITION)
