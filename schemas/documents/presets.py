"""
The presets of an environment: the documents that each stage has in flight.

In flight is not the same as computed at once: chunking and embedding compute, and more threads than cores only take
each other's time. The worker limits of these stages bound what is begun, and their pools have a thread a core at most.
The stage that stores waits for Postgres.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLimits:
    """The limits of the three stages; a batch is what a stage takes at once, in documents."""

    chunk_workers: int
    embed_workers: int
    store_workers: int
    chunk_batch: int
    embed_batch: int
    store_batch: int

    def chunk_threads(self, cores: int) -> int:
        """Return the size of the pool that chunks, on a machine with so many cores."""
        return min(self.chunk_workers, cores)

    def embed_threads(self, cores: int) -> int:
        """Return the size of the pool that embeds; one core is left to everything else where there are several."""
        return min(self.embed_workers, max(1, cores - 1))


class Environment(StrEnum):
    """The environment that stages are sized for."""

    LOCAL = "local"
    STANDARD = "standard"
    HIGH_THROUGHPUT = "high_throughput"


LIMITS: Mapping[Environment, StageLimits] = MappingProxyType(
    {
        Environment.LOCAL: StageLimits(
            chunk_workers=2, embed_workers=2, store_workers=2, chunk_batch=5, embed_batch=5, store_batch=5
        ),
        # Embedding takes the most time a document: small batches let a document of another lane in sooner.
        Environment.STANDARD: StageLimits(
            chunk_workers=4, embed_workers=6, store_workers=4, chunk_batch=10, embed_batch=4, store_batch=10
        ),
        Environment.HIGH_THROUGHPUT: StageLimits(
            chunk_workers=8, embed_workers=12, store_workers=8, chunk_batch=10, embed_batch=10, store_batch=10
        ),
    }
)
