"""The settings of an executor."""

from dataclasses import dataclass

from schemas.jobs.types import TaskTypesSettings
from schemas.jobs.waiting import LEASE_S
from schemas.process.settings import LogSettings, ManagementSettings, SettingsInvalid, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """The times by which executors know of each other's end."""

    beat_s: float = setting("TIDEGATE_EXECUTOR_BEAT_S", 5.0, help="Seconds between two renewals of the lease", unit="s")
    lease_s: float = setting(
        "TIDEGATE_EXECUTOR_LEASE_S",
        LEASE_S,
        help="Seconds after the last renewal at which others take an executor's jobs back; all executors need the same",
        unit="s",
    )

    def __post_init__(self) -> None:
        """Raise SettingsInvalid where a lease could end between two renewals."""
        if not 0 < self.beat_s <= self.lease_s / 3:
            raise SettingsInvalid("TIDEGATE_EXECUTOR_BEAT_S must be above 0 and at most a third of the lease")

    @property
    def fence_s(self) -> float:
        """Return the seconds without a confirmed renewal after which an executor kills its own children."""
        return self.lease_s * 2 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorSettings:
    """The settings of an executor."""

    management: ManagementSettings
    types: TaskTypesSettings
    lease: LeaseSettings
    postgres: str = setting("TIDEGATE_POSTGRES", help="DSN of a role with tidegate_jobs", secret=True)
    slots: int = setting("TIDEGATE_EXECUTOR_SLOTS", 4, help="Tasks that run at once", minimum=1)
    drain_s: float = setting(
        "TIDEGATE_EXECUTOR_DRAIN_S",
        25.0,
        help="Seconds that running tasks are given at SIGTERM; the orchestrator must wait for some 10 s more",
        unit="s",
        minimum=0,
    )
    child_runs_max: int = setting(
        "TIDEGATE_EXECUTOR_CHILD_RUNS", 1000, help="Tasks after which a child process is replaced", minimum=1
    )
    child_bytes_max: int = setting(
        "TIDEGATE_EXECUTOR_CHILD_BYTES",
        512 * 1024 * 1024,
        help="Resident memory above which an idle child process is replaced",
        unit="bytes",
        minimum=1,
    )
    results_keep_s: float = setting(
        "TIDEGATE_JOB_RESULTS_KEEP_S",
        3600.0,
        help="Seconds for which results are kept, in whole hours upwards; the summary of each stays",
        unit="s",
        minimum=0,
    )
    log: LogSettings
