"""The port to the legs of a search, and what they search in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.documents.parsing.filters import Filter

CANDIDATES_MAX = 100  # of each leg
LEG_TIMEOUT_MS = 2_000
EXACT_CHUNKS_MAX = 20_000  # a scope of more is searched by the index, which knows nothing of scopes
COLLECTIONS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The collections of a search that one embedder serves."""

    embedder: str  # its id
    name: str
    dimensions: int
    chunks: str  # its table
    by_config: Mapping[str, Sequence[str]]  # collections by their text search configuration

    @property
    def collections(self) -> Sequence[str]:
        """Return all of them."""
        return [each for collections in self.by_config.values() for each in collections]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A chunk that a leg found."""

    chunk_id: int  # unique within its embedder's table
    collection: str
    document: str
    score: float  # greater is better


@dataclass(frozen=True, slots=True, kw_only=True)
class LegAnswer:
    """The chunks that a leg found, the best first."""

    found: Sequence[Found]
    complete: bool = True  # False: the scan ended short


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRow:
    """A chunk of a live version, as it is shown."""

    ordinal: int
    start: int
    end: int
    heading: str | None
    text: str
    revision: int
    metadata: str | None


class LegFailed(Exception):
    """A leg has no answer; its text may be shown. Answer with the other one."""


class SearchStore(Protocol):
    """
    Reads of chunks; each takes the tenant's name, and lasts for `LEG_TIMEOUT_MS` at most.

    Every method raises StoreUnavailable when Postgres is away, or lacks what searches need: answer 503.
    """

    async def scopes(self, tenant: str, collections: Sequence[str] | None) -> Sequence[Scope]:
        """
        Return the tenant's collections of these names, None: all of them, by the embedder that serves them.

        Raises:
            BadScope: there are more than `COLLECTIONS_MAX`. Answer 422.
        """

    async def nearest(self, tenant: str, scope: Scope, vector: Sequence[float], admitted: Filter | None) -> LegAnswer:
        """Return the chunks whose vectors are nearest. Raises LegFailed."""

    async def matching(self, tenant: str, scope: Scope, query: str, admitted: Filter | None) -> Sequence[LegAnswer]:
        """
        Return the chunks that have words of *query*, for each text search configuration; none where no word counts.

        Raises:
            LegFailed: see above.
        """

    async def rows(self, tenant: str, scope: Scope, chunk_ids: Sequence[int]) -> Mapping[int, ChunkRow]:
        """Return chunks by their ids; those that were replaced meanwhile are missing. Raises LegFailed."""
