"""The metrics of the processes that handle jobs."""

from schemas.process.telemetry import OF_PROCESSORS, WRONG_PARTITION, Kind, Metric

JOBS_READY = Metric(
    name="tidegate_jobs_ready",
    kind=Kind.GAUGE,
    help="Jobs that wait for an executor, by queue, counted to 100,000: the depth to scale executors by",
    labels=("queue",),
)
JOBS_DELAYED = Metric(
    name="tidegate_jobs_delayed", kind=Kind.GAUGE, help="Jobs that wait for their time, by queue", labels=("queue",)
)
JOBS_RUNNING = Metric(
    name="tidegate_jobs_running", kind=Kind.GAUGE, help="Jobs that executors hold, by queue", labels=("queue",)
)
JOBS_OLDEST_READY = Metric(
    name="tidegate_jobs_oldest_ready_seconds",
    kind=Kind.GAUGE,
    help="Age of the oldest job that waits for an executor, by queue; 0 where none waits",
    labels=("queue",),
)
JOB_EXECUTORS = Metric(
    name="tidegate_job_executors",
    kind=Kind.GAUGE,
    help="Executors whose lease holds, by queue",
    labels=("queue",),
)
JOB_XMIN_AGE = Metric(
    name="tidegate_jobs_oldest_snapshot_seconds",
    kind=Kind.GAUGE,
    help="Age of the oldest transaction in Postgres that keeps VACUUM from the hot tables of jobs",
)
JOB_DEAD_ROWS = Metric(
    name="tidegate_jobs_dead_rows",
    kind=Kind.GAUGE,
    help="Dead rows in a hot table of jobs, as Postgres estimates them",
    labels=("table",),
)
JOB_CHANGES_WAITING = Metric(
    name="tidegate_jobs_changes_waiting",
    kind=Kind.GAUGE,
    help="Changes of jobs that are not in jobs.events yet, counted to 10,000",
)
JOB_CHANGES_PUBLISHED = Metric(
    name="tidegate_jobs_changes_published_total", kind=Kind.COUNTER, help="Changes of jobs written to jobs.events"
)
SCHEDULES_FIRED = Metric(
    name="tidegate_job_schedules_fired_total", kind=Kind.COUNTER, help="Jobs that schedules submitted"
)
JOB_SLOTS = Metric(
    name="tidegate_executor_slots", kind=Kind.GAUGE, help="Slots of this executor: busy and idle", labels=("state",)
)
JOBS_CLAIMED = Metric(
    name="tidegate_executor_jobs_claimed_total",
    kind=Kind.COUNTER,
    help="Jobs that this executor claimed",
    labels=("queue",),
)
ATTEMPTS_ENDED = Metric(
    name="tidegate_executor_attempts_total",
    kind=Kind.COUNTER,
    help="Attempts that this executor ended, by type of task, outcome and reason",
    labels=("type", "outcome", "reason"),
)
ATTEMPT_DURATION = Metric(
    name="tidegate_executor_attempt_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="From the start of a task to its end",
    labels=("type",),
    buckets=(0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0),
)
JOB_WAIT = Metric(
    name="tidegate_executor_job_wait_seconds",
    kind=Kind.HISTOGRAM,
    help="From when a job could run to the start of its task",
    labels=("queue",),
    buckets=(0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 3600.0),
)
STALE_WRITES = Metric(
    name="tidegate_executor_stale_writes_total",
    kind=Kind.COUNTER,
    help="Ends of attempts that were dropped, since the job was no longer this attempt's",
)
JOBS_LOST = Metric(
    name="tidegate_executor_jobs_lost_total",
    kind=Kind.COUNTER,
    help="Jobs that this executor took back from executors that are gone",
)
CHILDREN_ENDED = Metric(
    name="tidegate_executor_children_ended_total",
    kind=Kind.COUNTER,
    help="Child processes that ended: retired, crashed, killed by a limit or with their zygote",
    labels=("why",),
)

OF_INTAKE = (
    *OF_PROCESSORS,
    WRONG_PARTITION,
    JOBS_READY,
    JOBS_DELAYED,
    JOBS_RUNNING,
    JOBS_OLDEST_READY,
    JOB_EXECUTORS,
    JOB_XMIN_AGE,
    JOB_DEAD_ROWS,
    JOB_CHANGES_WAITING,
    JOB_CHANGES_PUBLISHED,
    SCHEDULES_FIRED,
)
OF_EXECUTORS = (
    JOB_SLOTS,
    JOBS_CLAIMED,
    ATTEMPTS_ENDED,
    ATTEMPT_DURATION,
    JOB_WAIT,
    STALE_WRITES,
    JOBS_LOST,
    CHILDREN_ENDED,
)
