"""The settings of the stages: a preset, what differs from it, and the cores that there are."""

import os
from dataclasses import dataclass, replace

from schemas.documents.presets import LIMITS, Environment, StageLimits
from schemas.process.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """The preset of the stages, and what differs from it."""

    preset: Environment = setting(
        "TIDEGATE_DOCUMENTS_PRESET",
        Environment.STANDARD,
        help="Limits of the stages of documents: local, standard or high_throughput",
    )
    chunk_workers: int = setting(
        "TIDEGATE_DOCUMENTS_CHUNK_WORKERS", 0, help="Documents that are chunked at once; 0: by the preset", minimum=0
    )
    embed_workers: int = setting(
        "TIDEGATE_DOCUMENTS_EMBED_WORKERS", 0, help="Documents that are embedded at once; 0: by the preset", minimum=0
    )
    store_workers: int = setting(
        "TIDEGATE_DOCUMENTS_STORE_WORKERS", 0, help="Documents that are stored at once; 0: by the preset", minimum=0
    )
    chunk_batch: int = setting(
        "TIDEGATE_DOCUMENTS_CHUNK_BATCH", 0, help="Documents in a batch to chunk; 0: by the preset", minimum=0
    )
    embed_batch: int = setting(
        "TIDEGATE_DOCUMENTS_EMBED_BATCH", 0, help="Documents in a batch to embed; 0: by the preset", minimum=0
    )
    store_batch: int = setting(
        "TIDEGATE_DOCUMENTS_STORE_BATCH", 0, help="Documents in a batch to store; 0: by the preset", minimum=0
    )

    def limits(self) -> StageLimits:
        """Return the limits of the preset with what was set apart from it."""
        apart = {
            "chunk_workers": self.chunk_workers,
            "embed_workers": self.embed_workers,
            "store_workers": self.store_workers,
            "chunk_batch": self.chunk_batch,
            "embed_batch": self.embed_batch,
            "store_batch": self.store_batch,
        }
        return replace(LIMITS[self.preset], **{name: value for name, value in apart.items() if value})


def cores_allowed() -> int:
    """Return the number of cores that this process may run on."""
    # A container or taskset may allow fewer than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
