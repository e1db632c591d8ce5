"""The settings of the documents-embed process."""

from dataclasses import dataclass
from pathlib import Path

from processors.documents.work.limits import StageSettings
from processors.documents.worker_settings import ChunkWorkerSettings, WorkerDeadline
from schemas.documents.embedding.config import EmbeddingSettings
from schemas.kafka.connection import KafkaSettings
from schemas.process.settings import CredentialsSettings, LogSettings, ManagementSettings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedSettings:
    """The settings of the documents-embed process."""

    kafka: KafkaSettings
    credentials: CredentialsSettings
    management: ManagementSettings
    embedding: EmbeddingSettings
    stages: StageSettings
    chunking: ChunkWorkerSettings
    workers: WorkerDeadline
    postgres: str = setting("TIDEGATE_POSTGRES", help="DSN of a role with tidegate_documents", secret=True)
    limits: Path | None = setting(
        "TIDEGATE_LIMITS", None, help="File of limits that may change while the process runs (TOML)"
    )
    log: LogSettings
