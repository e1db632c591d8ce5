"""The settings of the processing process."""

from dataclasses import dataclass
from pathlib import Path

from schemas.events.types_file import EventTypesSettings
from schemas.kafka.connection import KafkaSettings
from schemas.process.settings import CredentialsSettings, LogSettings, ManagementSettings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingSettings:
    """The settings of the processing process."""

    kafka: KafkaSettings
    credentials: CredentialsSettings
    management: ManagementSettings
    postgres: str = setting("TIDEGATE_POSTGRES", help="DSN of a role with tidegate_write", secret=True)
    types: EventTypesSettings
    limits: Path | None = setting(
        "TIDEGATE_LIMITS", None, help="File of limits that may change while the process runs (TOML)"
    )
    concurrency: int = setting(
        "TIDEGATE_PROCESSING_CONCURRENCY", 16, help="Calls under way at once, of different keys", minimum=1
    )
    soft_limit_s: float = setting(
        "TIDEGATE_PROCESSING_SOFT_LIMIT_S", 240.0, help="Seconds after which a call is cancelled", minimum=0.001
    )
    hard_limit_s: float = setting(
        "TIDEGATE_PROCESSING_HARD_LIMIT_S",
        300.0,
        help="Seconds after which a call that was cancelled and goes on counts as failed",
        minimum=0.001,
    )
    log: LogSettings
