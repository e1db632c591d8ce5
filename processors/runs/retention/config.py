"""Settings of the maintenance process."""

from dataclasses import dataclass
from pathlib import Path

from schemas.kafka.connection import KafkaSettings
from schemas.process.settings import LogSettings, ManagementSettings, ObjectsSettings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceSettings:
    """The settings of the maintenance process."""

    kafka: KafkaSettings
    management: ManagementSettings
    objects: ObjectsSettings
    postgres: str = setting("TIDEGATE_POSTGRES", help="DSN of a role with tidegate_maintain", secret=True)
    retention: Path | None = setting(
        "TIDEGATE_RETENTION", None, help="File that says how long what is kept (TOML); without it nothing is removed"
    )
    period_s: float = setting(
        "TIDEGATE_MAINTENANCE_PERIOD_S", 3600.0, help="Seconds between two passes of retention", unit="s"
    )
    run_idle_s: float = setting(
        "TIDEGATE_RUN_IDLE_S", 0.0, help="Seconds without an event after which an open run is abandoned; 0: never"
    )
    log: LogSettings
