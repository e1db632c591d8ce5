"""The metrics of the processes of sinks."""

from schemas.process.telemetry import OF_PROCESSORS, Kind, Metric

SINK_BATCHES = Metric(
    name="tidegate_sink_batches_total",
    kind=Kind.COUNTER,
    help="Writes of a batch to a sink, by outcome: taken, in part (some of its records), transient, refused, too_large "
    "or held",
    labels=("sink", "outcome"),
)
SINK_DURATION = Metric(
    name="tidegate_sink_write_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="From the start of a write to its outcome",
    labels=("sink",),
)
SINK_BREAKER_CLOSED = Metric(
    name="tidegate_sink_breaker_closed",
    kind=Kind.GAUGE,
    help="1 while batches are written, 0 while the breaker is open or half-open",
    labels=("sink",),
)
SINK_HELD = Metric(
    name="tidegate_sink_held",
    kind=Kind.GAUGE,
    help="1 while the sink is held: its setting is wrong, and only a person can mend it",
    labels=("sink",),
)

OF_SINK = (*OF_PROCESSORS, SINK_BATCHES, SINK_DURATION, SINK_BREAKER_CLOSED, SINK_HELD)
