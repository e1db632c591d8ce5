"""The settings of the documents-intake process."""

from dataclasses import dataclass
from pathlib import Path

from processors.documents.worker_settings import ChunkWorkerSettings
from schemas.documents.embedding.config import EmbedderNames
from schemas.kafka.connection import KafkaSettings
from schemas.process.settings import CredentialsSettings, LogSettings, ManagementSettings, ObjectsSettings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentsIntakeSettings:
    """The settings of the documents-intake process."""

    kafka: KafkaSettings
    credentials: CredentialsSettings
    management: ManagementSettings
    embedders: EmbedderNames
    objects: ObjectsSettings
    chunking: ChunkWorkerSettings
    postgres: str = setting("TIDEGATE_POSTGRES", help="DSN of a role with tidegate_documents", secret=True)
    texts_days: int = setting(
        "TIDEGATE_DOCUMENTS_TEXTS_DAYS",
        7,
        help="Days for which the text of a failed or cancelled document is kept, so that it can be tried again",
        unit="days",
        minimum=1,
    )
    vectors_days: int = setting(
        "TIDEGATE_DOCUMENTS_VECTORS_DAYS",
        30,
        help="Days for which a vector that nothing asks for stays in the cache",
        unit="days",
        minimum=1,
    )
    # Longer than the log has a record, which may come again: a segment of 7 days may be as old once more.
    jobs_days: int = setting(
        "TIDEGATE_DOCUMENTS_JOBS_DAYS",
        90,
        help="Days for which an ended job that no document needs is kept, and the outcome of a command",
        unit="days",
        minimum=30,
    )
    limits: Path | None = setting(
        "TIDEGATE_LIMITS", None, help="File of limits that may change while the process runs (TOML)"
    )
    log: LogSettings
