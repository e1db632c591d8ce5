"""Settings of an endpoint's process."""

from dataclasses import dataclass
from pathlib import Path

from schemas.kafka.connection import KafkaSettings
from schemas.process.settings import CredentialsSettings, LogSettings, ManagementSettings, ObjectsSettings, setting
from schemas.runs.endpoints import EndpointsSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSettings:
    """The settings of the process of one endpoint."""

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
    log: LogSettings
