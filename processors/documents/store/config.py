"""The settings of the documents-store process."""

from dataclasses import dataclass
from pathlib import Path

from processors.documents.worker_settings import WorkerDeadline
from schemas.kafka.connection import KafkaSettings
from schemas.process.settings import CredentialsSettings, LogSettings, ManagementSettings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """The settings of the documents-store process."""

    kafka: KafkaSettings
    credentials: CredentialsSettings
    management: ManagementSettings
    postgres: str = setting("TIDEGATE_POSTGRES", help="DSN of a role with tidegate_documents", secret=True)
    workers: WorkerDeadline
    store_worker: str = setting(
        "TIDEGATE_STORE_WORKER",
        "",
        help="A worker of your own that keeps versions elsewhere as well: module:function, or an entry point",
    )
    limits: Path | None = setting(
        "TIDEGATE_LIMITS", None, help="File of limits that may change while the process runs (TOML)"
    )
    log: LogSettings
