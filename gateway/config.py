"""The gateway's settings, read once in `__main__`."""

from dataclasses import dataclass

from schemas.settings import CredentialsSettings, KafkaSettings, ManagementSettings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Where the API is served."""

    host: str = setting("TIDEGATE_GATEWAY_HOST", "127.0.0.1", help="Address of the API")
    port: int = setting("TIDEGATE_GATEWAY_PORT", 8080, help="Port of the API")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that the gateway is told."""

    kafka: KafkaSettings
    credentials: CredentialsSettings
    api: ApiSettings
    management: ManagementSettings
    postgres: str = setting("TIDEGATE_POSTGRES", help="DSN of a role with tidegate_read", secret=True)
    log_level: str = setting("TIDEGATE_LOG_LEVEL", "INFO", help="DEBUG, INFO, WARNING or ERROR")
