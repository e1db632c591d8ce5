"""The settings of workers of one's own for the chunk and the store stage."""

from dataclasses import dataclass

from processors.documents.versions import CHUNKER
from schemas.process.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkWorkerSettings:
    """The worker of the chunk stage, which intake must know as well: what it cuts is another version."""

    chunk_worker: str = setting(
        "TIDEGATE_CHUNK_WORKER", "", help="A worker of your own that cuts texts: module:function, or an entry point"
    )

    @property
    def chunker(self) -> str:
        """Return the id of the rules by which texts are cut."""
        return f"worker:{self.chunk_worker}" if self.chunk_worker else CHUNKER


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDeadline:
    """The bound on a worker's answer."""

    deadline_s: float = setting(
        "TIDEGATE_WORKER_DEADLINE", 60.0, help="For one answer of a worker of your own", unit="s", minimum=0.001
    )
