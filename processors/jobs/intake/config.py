"""The settings of the jobs-intake process."""

from dataclasses import dataclass
from pathlib import Path

from schemas.jobs.types import TaskTypesSettings
from schemas.kafka.connection import KafkaSettings
from schemas.process.settings import CredentialsSettings, LogSettings, ManagementSettings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeSettings:
    """The settings of the jobs-intake process."""

    kafka: KafkaSettings
    credentials: CredentialsSettings
    management: ManagementSettings
    types: TaskTypesSettings
    postgres: str = setting("TIDEGATE_POSTGRES", help="DSN of a role with tidegate_jobs", secret=True)
    limits: Path | None = setting(
        "TIDEGATE_LIMITS", None, help="File of limits that may change while the process runs (TOML)"
    )
    log: LogSettings
