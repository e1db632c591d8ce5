"""Settings of the process that archives a topic."""

from dataclasses import dataclass
from pathlib import Path

from schemas.kafka.connection import KafkaSettings
from schemas.process.settings import LogSettings, ManagementSettings, ObjectsSettings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSettings:
    """The settings of the process that archives one topic."""

    kafka: KafkaSettings
    management: ManagementSettings
    objects: ObjectsSettings
    object_bytes: int = setting(
        "TIDEGATE_ARCHIVE_OBJECT_BYTES",
        64 * 1024 * 1024,
        help="An object is put when it has this many bytes, compressed",
        unit="bytes",
        minimum=1,
    )
    object_age_s: float = setting(
        "TIDEGATE_ARCHIVE_OBJECT_AGE_S",
        3600.0,
        help="Or so long after its first record came",
        unit="s",
        minimum=1,
    )
    keep_days: float = setting(
        "TIDEGATE_ARCHIVE_KEEP_DAYS",
        0.0,
        help="Objects are removed when their newest record is this old; 0: never",
        unit="days",
        minimum=0,
    )
    spool: Path | None = setting(
        "TIDEGATE_ARCHIVE_SPOOL", None, help="Folder of spool files; without it that of temporary files"
    )
    log: LogSettings
