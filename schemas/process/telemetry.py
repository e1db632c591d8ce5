"""
Every metric of every process, declared once: name, kind, labels and help.

Dashboards, alerts and code refer to these declarations; a test holds the three together. No label has a run
id or a record key. Durations are in seconds, sizes in bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_BUCKETS = (1, 5, 10, 50, 100, 250, 500, 1000, 2500, 5000)


class Kind(Enum):
    """The type of a metric."""

    COUNTER = Counter
    GAUGE = Gauge
    HISTOGRAM = Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """The declaration of one metric."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = LATENCY_BUCKETS_S


HTTP_REQUESTS = Metric(
    name="tidegate_http_requests_total",
    kind=Kind.COUNTER,
    help="Requests answered, by route pattern and status",
    labels=("method", "route", "status"),
)
HTTP_DURATION = Metric(
    name="http_server_request_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="From the request's head to the last byte of the response handed to the socket",
    labels=("method", "route"),
)
HTTP_CONNECTIONS = Metric(
    name="tidegate_http_connections",
    kind=Kind.GAUGE,
    help="Open connections, including those to the probes",
)
HTTP_CONNECTIONS_CUT = Metric(
    name="tidegate_http_connections_cut_total",
    kind=Kind.COUNTER,
    help="Connections closed: too many of them, a head that did not arrive in time, or a response that was not read",
    labels=("reason",),
)
EVENTS_ACCEPTED = Metric(
    name="tidegate_events_accepted_total",
    kind=Kind.COUNTER,
    help="Records that the broker acknowledged",
    labels=("topic",),
)
EVENTS_REFUSED = Metric(
    name="tidegate_events_refused_total", kind=Kind.COUNTER, help="Events that the gateway refused", labels=("code",)
)
PUBLISH_DURATION = Metric(
    name="tidegate_publish_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="From produce() to the delivery report",
    labels=("topic",),
)
PUBLISH_IN_FLIGHT = Metric(
    name="tidegate_publish_in_flight_records",
    kind=Kind.GAUGE,
    help="Records produced and not yet reported",
)
PUBLISH_FAILURES = Metric(
    name="tidegate_publish_failures_total",
    kind=Kind.COUNTER,
    help="Delivery reports with an error",
    labels=("topic", "error"),
)
JUDGE_WAITING = Metric(
    name="tidegate_judge_waiting_bytes",
    kind=Kind.GAUGE,
    help="Bytes of bodies that wait for the gateway's process that validates large bodies",
)
JUDGE_ENDED = Metric(
    name="tidegate_judge_ended_total",
    kind=Kind.COUNTER,
    help="Restarts of the gateway's process that validates large bodies",
)
TOKENS_REFUSED = Metric(
    name="tidegate_tokens_refused_total",
    kind=Kind.COUNTER,
    help="Tokens of users that were refused: unknown_key (no key of their issuer fits) or invalid; without an issuer, "
    "they name none of ours",
    labels=("issuer", "reason"),
)
KEY_SETS_READ = Metric(
    name="tidegate_key_sets_read_total",
    kind=Kind.COUNTER,
    help="Reads of an issuer's JWK Set at its address, by outcome: ok or failed (the last good set stays)",
    labels=("issuer", "outcome"),
)
KEY_SET_AGE = Metric(
    name="tidegate_key_set_age_seconds",
    kind=Kind.GAUGE,
    help="Since an issuer's JWK Set was last read; a day after, its tokens are answered 503",
    labels=("issuer",),
)
OBJECT_DURATION = Metric(
    name="tidegate_object_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="Payloads written to object storage (put) and read from it (get), completed or failed",
    labels=("operation", "outcome"),
)
RECORDS = Metric(
    name="tidegate_records_total",
    kind=Kind.COUNTER,
    help="Records that a group consumed, by outcome",
    labels=("topic", "group", "outcome", "reason"),
)
SLICE_RECORDS = Metric(
    name="tidegate_slice_records",
    kind=Kind.HISTOGRAM,
    help="Records per slice of a partition",
    labels=("group",),
    buckets=BATCH_BUCKETS,
)
SLICE_DURATION = Metric(
    name="tidegate_slice_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="From the start of a slice until its effects are durable, retries included",
    labels=("group",),
)
SLICE_RETRIES = Metric(
    name="tidegate_slice_retries_total",
    kind=Kind.COUNTER,
    help="Attempts at a slice that failed for a transient reason",
    labels=("group", "error"),
)
WRONG_PARTITION = Metric(
    name="tidegate_wrong_partition_records_total",
    kind=Kind.COUNTER,
    help="Direct records in another partition than murmur2 gives for their key, each time they are handled",
    labels=("topic", "group"),
)
GROUP_COMMITTED = Metric(
    name="tidegate_group_committed_offset",
    kind=Kind.GAUGE,
    help="Offset that this worker last committed",
    labels=("topic", "group", "partition"),
)
GROUP_HALTED_LANES = Metric(
    name="tidegate_group_halted_lanes",
    kind=Kind.GAUGE,
    help="Partitions stopped by the dead-letter limit: see the dead letters, then fix the cause or raise the limit",
    labels=("group",),
)
GROUP_HEALTHY = Metric(
    name="tidegate_group_healthy",
    kind=Kind.GAUGE,
    help="1 while every partition makes progress, 0 while one waits for a dependency",
    labels=("group",),
)


GROUP_LAG = Metric(
    name="tidegate_group_lag_records",
    kind=Kind.GAUGE,
    help="Records of its source that a group has not committed past, all partitions",
    labels=("group",),
)
GROUP_EXPIRED = Metric(
    name="tidegate_group_expired_records",
    kind=Kind.GAUGE,
    help="Records that expired before a group read them: its worker stops until an operator says where to go on",
    labels=("group",),
)
GROUP_DISPLACED = Metric(
    name="tidegate_group_displaced_partitions",
    kind=Kind.GAUGE,
    help="Partitions of its source in which a group's position has outlived the log: it stops there until the log is "
    "accepted",
    labels=("group",),
)
TOPIC_UNDECIDED = Metric(
    name="tidegate_topic_undecided_records",
    kind=Kind.GAUGE,
    help="Records behind the beginning of an open transaction, which no group sees: high watermark minus last stable "
    "offset",
    labels=("topic",),
)
ADMISSION_MULTIPLIER = Metric(
    name="tidegate_admission_multiplier",
    kind=Kind.GAUGE,
    help="Admitted rate as a fraction of the rate at which the group handles events: 1 while they are not throttled",
    labels=("group",),
)

MAINTENANCE_DURATION = Metric(
    name="tidegate_maintenance_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="Runs of a periodic task (retention, abandonment), completed or failed",
    labels=("duty", "outcome"),
    buckets=(0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0),
)
MAINTENANCE_DONE = Metric(
    name="tidegate_maintenance_last_done_timestamp_seconds",
    kind=Kind.GAUGE,
    help="When a periodic task last completed, in seconds since 1970",
    labels=("duty",),
)
FANOUT_SOCKETS = Metric(
    name="tidegate_fanout_sockets",
    kind=Kind.GAUGE,
    help="Open websockets, by stream: run, agent, task, tasks or dashboard",
    labels=("stream",),
)
FANOUT_MESSAGES = Metric(
    name="tidegate_fanout_messages_total",
    kind=Kind.COUNTER,
    help="Messages with a record, sent to sockets that are live on its partition",
    labels=("type",),
)
FANOUT_AGE = Metric(
    name="tidegate_fanout_age_seconds",
    kind=Kind.HISTOGRAM,
    help="From a record's timestamp to when it is sent, by the clocks of its writer and of this process",
)
FANOUT_CUT = Metric(
    name="tidegate_fanout_sockets_cut_total",
    kind=Kind.COUNTER,
    help="Websockets that the server closed, by reason",
    labels=("reason",),
)
FANOUT_REFUSED = Metric(
    name="tidegate_fanout_refused_total",
    kind=Kind.COUNTER,
    help="Requests that were refused, by code",
    labels=("code",),
)
FANOUT_SLICES = Metric(
    name="tidegate_fanout_catch_up_slices_total",
    kind=Kind.COUNTER,
    help="Slices of the log that were read for sockets that came with a cursor",
)
FANOUT_RESETS = Metric(
    name="tidegate_fanout_resets_total",
    kind=Kind.COUNTER,
    help="Cursors that the log does not hold: of a recreated topic, expired, or ahead of its end",
    labels=("reason",),
)

# What the gateway tells of groups, and so of webhook endpoints by name: for operators alone.
OF_GROUPS = (GROUP_LAG, GROUP_EXPIRED, GROUP_DISPLACED)
OF_GATEWAY = (
    TOKENS_REFUSED,
    KEY_SETS_READ,
    KEY_SET_AGE,
    HTTP_REQUESTS,
    HTTP_DURATION,
    HTTP_CONNECTIONS,
    HTTP_CONNECTIONS_CUT,
    EVENTS_ACCEPTED,
    EVENTS_REFUSED,
    PUBLISH_DURATION,
    PUBLISH_IN_FLIGHT,
    PUBLISH_FAILURES,
    JUDGE_WAITING,
    JUDGE_ENDED,
    OBJECT_DURATION,
    ADMISSION_MULTIPLIER,
    TOPIC_UNDECIDED,
    *OF_GROUPS,
)
OF_PROCESSORS = (
    RECORDS,
    SLICE_RECORDS,
    SLICE_DURATION,
    SLICE_RETRIES,
    GROUP_COMMITTED,
    GROUP_HALTED_LANES,
    GROUP_HEALTHY,
)
OF_FANOUT = (
    *OF_PROCESSORS,
    FANOUT_SOCKETS,
    FANOUT_MESSAGES,
    FANOUT_AGE,
    FANOUT_CUT,
    FANOUT_REFUSED,
    FANOUT_SLICES,
    FANOUT_RESETS,
)


class Telemetry:
    """The instruments of one process, one for each metric that it is given."""

    def __init__(self, declared: Sequence[Metric]) -> None:
        """Make an instrument for each of *declared* in a registry of its own."""
        self.registry = CollectorRegistry()
        self._instruments: dict[Metric, Any] = {metric: self._make(metric) for metric in declared}

    def __getitem__(self, metric: Metric) -> Any:
        """Return the instrument of *metric*: a prometheus_client Counter, Gauge or Histogram."""
        return self._instruments[metric]

    def _make(self, metric: Metric) -> Any:
        more = {"buckets": metric.buckets} if metric.kind is Kind.HISTOGRAM else {}
        return metric.kind.value(metric.name, metric.help, metric.labels, registry=self.registry, **more)
