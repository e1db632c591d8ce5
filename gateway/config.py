"""The gateway's settings, read once in `__main__`."""

from dataclasses import dataclass

from gateway.connections import CONNECTIONS_MAX, DEADLINES
from schemas.process.settings import CredentialsSettings, KafkaSettings, ManagementSettings, ObjectsSettings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Where the API is served."""

    host: str = setting("TIDEGATE_GATEWAY_HOST", "127.0.0.1", help="Address of the API")
    port: int = setting("TIDEGATE_GATEWAY_PORT", 8080, help="Port of the API")
    connections_max: int = setting(
        "TIDEGATE_CONNECTIONS_MAX", CONNECTIONS_MAX, help="Open connections to the API; more are closed at once"
    )
    keep_alive_s: int = setting(
        "TIDEGATE_KEEP_ALIVE_S",
        int(DEADLINES.idle_s),
        help="Seconds that an idle connection is kept open, as Keep-Alive says; 0: each answer ends its connection",
        minimum=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """How much is taken of whom within any 60 s, by each gateway; a tenant's limit stands in the credentials file."""

    run_per_min: int = setting("TIDEGATE_LIMIT_RUN_PER_MIN", 1_000, help="Events of one run; 0: no limit")
    agent_per_min: int = setting("TIDEGATE_LIMIT_AGENT_PER_MIN", 10_000, help="Events of one agent; 0: no limit")
    key_per_min: int = setting("TIDEGATE_LIMIT_KEY_PER_MIN", 0, help="Requests with one API key; 0: no limit")
    address_per_min: int = setting("TIDEGATE_LIMIT_ADDRESS_PER_MIN", 0, help="Requests from one address; 0: no limit")
    admission_lag_max: int = setting(
        "TIDEGATE_ADMISSION_LAG_MAX",
        1_000_000,
        help="Events are admitted more slowly from four fifths of this lag of persistence on",
        unit="records",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that the gateway is told."""

    kafka: KafkaSettings
    credentials: CredentialsSettings
    api: ApiSettings
    management: ManagementSettings
    objects: ObjectsSettings
    limits: LimitSettings
    postgres: str = setting("TIDEGATE_POSTGRES", help="DSN of a role with tidegate_read", secret=True)
    log_level: str = setting("TIDEGATE_LOG_LEVEL", "INFO", help="DEBUG, INFO, WARNING or ERROR")
