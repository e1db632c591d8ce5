"""Settings of the fanout process."""

from dataclasses import dataclass

from schemas.kafka.connection import KafkaSettings
from schemas.process.settings import CredentialsSettings, LogSettings, ManagementSettings, ObjectsSettings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """The address and the bounds of the live streams."""

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
    """The settings of the fanout process."""

    kafka: KafkaSettings
    credentials: CredentialsSettings
    management: ManagementSettings
    streams: StreamSettings
    objects: ObjectsSettings
    log: LogSettings
