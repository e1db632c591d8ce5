"""The settings of background jobs."""

from dataclasses import dataclass, field

from schemas.jobs.types import TaskTypesSettings
from schemas.process.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """The settings of background jobs."""

    types: TaskTypesSettings = field(default_factory=TaskTypesSettings)
    unfinished_max: int = setting(
        "TIDEGATE_JOBS_UNFINISHED_MAX",
        100_000,
        help="Unfinished jobs that a tenant may have; more are refused with 429; 0: no limit",
        minimum=0,
    )
