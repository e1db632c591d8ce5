"""The gateway's settings, read once in `__main__`."""

from dataclasses import dataclass

from gateway.documents.settings import DocumentSettings
from gateway.http.connections import CONNECTIONS_MAX, DEADLINES
from gateway.jobs.settings import JobSettings
from gateway.limits.throttle import LimitSettings
from schemas.documents.embedding.config import EmbeddingSettings
from schemas.kafka.connection import KafkaSettings
from schemas.process.settings import CredentialsSettings, LogSettings, ManagementSettings, ObjectsSettings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """The settings of the API's listener and its connections."""

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
class PageSettings:
    """Web pages that call the API."""

    origins: str | None = setting(
        "TIDEGATE_GATEWAY_ORIGINS",
        None,
        help="Origins whose web pages may send and read user events, comma separated; empty: none",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainDoorSettings:
    """The settings of `POST /events`: the tenant of requests without a key."""

    tenant: str = setting(
        "TIDEGATE_PLAIN_DOOR_TENANT", "", help="Tenant of events sent to POST /events without a key; empty: needs one"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """The settings for reading the keys of token issuers."""

    internal_allowed: bool = setting(
        "TIDEGATE_JWKS_INTERNAL",
        False,
        help="true: JWK Sets may be at internal addresses and over plain HTTP; for development",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of the gateway."""

    kafka: KafkaSettings
    credentials: CredentialsSettings
    api: ApiSettings
    management: ManagementSettings
    objects: ObjectsSettings
    limits: LimitSettings
    tokens: TokenSettings
    pages: PageSettings
    plain_door: PlainDoorSettings
    jobs: JobSettings
    documents: DocumentSettings
    embedding: EmbeddingSettings
    postgres: str = setting("TIDEGATE_POSTGRES", help="DSN of a role with tidegate_read", secret=True)
    log: LogSettings
