"""The settings of the events process."""

from dataclasses import dataclass
from pathlib import Path

from schemas.events.types_file import EventTypesSettings
from schemas.kafka.connection import KafkaSettings
from schemas.process.settings import CredentialsSettings, LogSettings, ManagementSettings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsSettings:
    """The settings of the events process."""

    kafka: KafkaSettings
    credentials: CredentialsSettings
    management: ManagementSettings
    postgres: str = setting("TIDEGATE_POSTGRES", help="DSN of a role with tidegate_write", secret=True)
    types: EventTypesSettings
    limits: Path | None = setting(
        "TIDEGATE_LIMITS", None, help="File of limits that may change while the process runs (TOML)"
    )
    connections_max: int = setting("TIDEGATE_EVENTS_CONNECTIONS", 4, help="Connections to Postgres")
    log: LogSettings
