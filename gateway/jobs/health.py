"""The state of background jobs, decided from facts."""

from collections.abc import Sequence
from typing import Literal

from gateway.jobs.views import ExecutorView, JobsHealth, QueueView
from schemas.jobs.waiting import LEASE_S

LAG_MAX = 10_000  # commands
OLDEST_READY_S_MAX = 600.0
SNAPSHOT_S_MAX = 300.0


def health_of(
    *,
    intake_lag: int | None,
    queues: Sequence[QueueView],
    executors: Sequence[ExecutorView],
    oldest_snapshot_s: float | None,
) -> JobsHealth:
    """Return the state and its problems: unhealthy where jobs stand still, degraded where they are slow."""
    standing: list[str] = []
    slow: list[str] = []
    if intake_lag is None:
        standing.append("Kafka does not tell how far jobs.intake is")
    elif intake_lag > LAG_MAX:
        slow.append(f"{intake_lag} commands wait for jobs.intake")
    for queue in queues:
        if queue.paused:
            continue
        if queue.ready and not queue.executors:
            standing.append(f"queue {queue.queue} has jobs and no executor")
        elif (queue.oldest_ready_s or 0.0) > OLDEST_READY_S_MAX:
            slow.append(f"queue {queue.queue}: the next job has been ready for {queue.oldest_ready_s:.0f} s")
    slow += [
        f"executor {each.executor_id} on {each.host} has been silent for {each.silent_s:.0f} s"
        for each in executors
        if each.silent_s > LEASE_S and each.busy
    ]
    if (oldest_snapshot_s or 0.0) > SNAPSHOT_S_MAX:
        slow.append(f"a transaction has kept VACUUM away for {oldest_snapshot_s:.0f} s")
    status: Literal["healthy", "degraded", "unhealthy"] = "unhealthy" if standing else "degraded" if slow else "healthy"
    return JobsHealth(
        status=status,
        problems=standing + slow,
        intake_lag=intake_lag,
        queues=queues,
        executors=executors,
        oldest_snapshot_s=oldest_snapshot_s,
    )
