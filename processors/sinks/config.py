"""Settings of a sink's process."""

from dataclasses import dataclass
from pathlib import Path

from schemas.kafka.connection import KafkaSettings
from schemas.process.settings import CredentialsSettings, LogSettings, ManagementSettings, setting
from schemas.sinks.sinks_file import SinksSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkProcessSettings:
    """The settings of the process of one sink."""

    kafka: KafkaSettings
    credentials: CredentialsSettings
    management: ManagementSettings
    sinks: SinksSettings
    internal_allowed: bool = setting(
        "TIDEGATE_SINKS_INTERNAL", False, help="Send also to internal addresses, without TLS, on any port"
    )
    limits: Path | None = setting(
        "TIDEGATE_LIMITS", None, help="File of limits that may change while the process runs (TOML)"
    )
    log: LogSettings
