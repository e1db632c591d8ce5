"""Settings of the processors."""

from dataclasses import dataclass
from pathlib import Path

from schemas.process.settings import CredentialsSettings, KafkaSettings, ManagementSettings, ObjectsSettings, setting
from schemas.runs.endpoints import EndpointsSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistenceSettings:
    """Everything that the persistence process is told."""

    kafka: KafkaSettings
    credentials: CredentialsSettings
    management: ManagementSettings
    postgres: str = setting("TIDEGATE_POSTGRES", help="DSN of a role with tidegate_write", secret=True)
    limits: Path | None = setting(
        "TIDEGATE_LIMITS", None, help="File of limits that may change while the process runs (TOML)"
    )
    connections_max: int = setting("TIDEGATE_PERSISTENCE_CONNECTIONS", 4, help="Connections to Postgres")
    log_level: str = setting("TIDEGATE_LOG_LEVEL", "INFO", help="DEBUG, INFO, WARNING or ERROR")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings:
    """Everything that the process of one endpoint is told."""

    kafka: KafkaSettings
    credentials: CredentialsSettings
    management: ManagementSettings
    endpoints: EndpointsSettings
    objects: ObjectsSettings
    internal_allowed: bool = setting(
        "TIDEGATE_EVALUATION_INTERNAL", False, help="Send also to internal addresses, without TLS, on any port"
    )
    limits: Path | None = setting(
        "TIDEGATE_LIMITS", None, help="File of limits that may change while the process runs (TOML)"
    )
    log_level: str = setting("TIDEGATE_LOG_LEVEL", "INFO", help="DEBUG, INFO, WARNING or ERROR")


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceSettings:
    """Everything that the maintenance process is told."""

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
    log_level: str = setting("TIDEGATE_LOG_LEVEL", "INFO", help="DEBUG, INFO, WARNING or ERROR")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """Where live streams are served, and to how many."""

    host: str = setting("TIDEGATE_FANOUT_HOST", "127.0.0.1", help="Address of the live streams")
    port: int = setting("TIDEGATE_FANOUT_PORT", 8081, help="Port of the live streams")
    origins: str | None = setting(
        "TIDEGATE_FANOUT_ORIGINS",
        None,
        help="Origins whose web pages may connect, comma separated; who sends no Origin is no web page",
    )
    query_keys: bool = setting(
        "TIDEGATE_FANOUT_QUERY_KEYS", True, help="Whether an API key may stand in the URL, as ?api_key="
    )
    sockets_max: int = setting("TIDEGATE_FANOUT_SOCKETS_MAX", 5_000, help="Open websockets")
    tenant_sockets_max: int = setting("TIDEGATE_FANOUT_TENANT_SOCKETS_MAX", 2_000, help="Open websockets of one tenant")


@dataclass(frozen=True, slots=True, kw_only=True)
class FanoutSettings:
    """Everything that the fanout process is told."""

    kafka: KafkaSettings
    credentials: CredentialsSettings
    management: ManagementSettings
    streams: StreamSettings
    objects: ObjectsSettings
    log_level: str = setting("TIDEGATE_LOG_LEVEL", "INFO", help="DEBUG, INFO, WARNING or ERROR")
