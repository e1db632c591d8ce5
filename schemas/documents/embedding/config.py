"""The settings of embedders."""

import os
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from schemas.process.settings import SettingsInvalid, entries_of, setting


class VectorEncoding(StrEnum):
    """The form in which a server is asked for vectors; an answer in the other one is read as well."""

    FLOAT = "float"
    BASE64 = "base64"  # a fifth of the bytes, and not every server knows it


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAiSettings:
    """The settings of the embedder `openai`: any server of the API `/v1/embeddings`."""

    url: str = setting("TIDEGATE_OPENAI_URL", "https://api.openai.com", help="Address of the server, without /v1/...")
    hosts: str = setting(
        "TIDEGATE_OPENAI_HOSTS", "api.openai.com", help="Hosts that texts may be sent to, comma separated"
    )
    internal_allowed: bool = setting(
        "TIDEGATE_OPENAI_INTERNAL",
        False,
        help="true: the server may be at an internal address, without TLS, on any port",
    )
    key: str | None = setting("TIDEGATE_OPENAI_KEY", None, help="API key", secret=True)
    model: str = setting("TIDEGATE_OPENAI_MODEL", "text-embedding-3-small", help="Name of the model at the server")
    dimensions: int = setting("TIDEGATE_OPENAI_DIMENSIONS", 1536, help="Length of its vectors", minimum=1)
    sends_dimensions: bool = setting(
        "TIDEGATE_OPENAI_SEND_DIMENSIONS", False, help="true: ask for vectors of that length, where a model can shorten"
    )
    encoding: VectorEncoding = setting(
        "TIDEGATE_OPENAI_ENCODING", VectorEncoding.FLOAT, help="Form of the vectors asked for: float or base64"
    )
    passage_prefix: str = setting("TIDEGATE_OPENAI_PASSAGE_PREFIX", "", help="What the model wants before a passage")
    query_prefix: str = setting("TIDEGATE_OPENAI_QUERY_PREFIX", "", help="What the model wants before a query")
    tokens_max: int = setting(
        "TIDEGATE_OPENAI_TOKENS_MAX", 8191, help="Tokens of one text, by estimate", unit="tokens", minimum=1
    )
    inputs_max: int = setting("TIDEGATE_OPENAI_INPUTS_MAX", 128, help="Texts in one request", minimum=1)
    request_tokens_max: int = setting(
        "TIDEGATE_OPENAI_REQUEST_TOKENS", 100_000, help="Tokens in one request, by estimate", unit="tokens", minimum=1
    )
    timeout_s: float = setting("TIDEGATE_OPENAI_TIMEOUT", 30.0, help="For one request", unit="s", minimum=0.001)
    wait_s: float = setting(
        "TIDEGATE_OPENAI_WAIT", 30.0, help="For a turn, while requests are paced", unit="s", minimum=0.0
    )
    in_flight_max: int = setting("TIDEGATE_OPENAI_IN_FLIGHT", 16, help="Requests at a time, at most", minimum=1)
    requests_per_min: int = setting(
        "TIDEGATE_OPENAI_REQUESTS_PER_MIN", 0, help="The provider's quota; 0: none", minimum=0
    )
    tokens_per_min: int = setting(
        "TIDEGATE_OPENAI_TOKENS_PER_MIN", 0, help="The provider's quota; 0: none", unit="tokens", minimum=0
    )

    def __post_init__(self) -> None:
        """Refuse what can never be sent."""
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise SettingsInvalid("TIDEGATE_OPENAI_KEY must be printable ASCII: look for a line break in it")
        if 0 < self.tokens_per_min < self.tokens_max:
            raise SettingsInvalid(
                f"TIDEGATE_OPENAI_TOKENS_PER_MIN={self.tokens_per_min} is less than one text may have: "
                f"raise it, or lower TIDEGATE_OPENAI_TOKENS_MAX={self.tokens_max}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedWorkerSettings:
    """The settings of the embedder `worker`: a worker of one's own."""

    worker: str = setting(
        "TIDEGATE_EMBED_WORKER", "", help="A worker of your own that embeds: module:function, or an entry point"
    )
    dimensions: int = setting("TIDEGATE_EMBED_WORKER_DIMENSIONS", 384, help="Length of its vectors", minimum=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderNames:
    """The names of the embedders, for processes that only pass them on."""

    embedders: str = setting(
        "TIDEGATE_EMBEDDERS",
        "minilm",
        help="Embedders, comma separated: minilm, openai, hash, worker, or one of an installed package; "
        "the first is that of new collections",
    )

    @property
    def default(self) -> str:
        """Return the name of the embedder of new collections. Raises SettingsInvalid: there is none."""
        names = entries_of(self.embedders)
        if not names:
            raise SettingsInvalid("TIDEGATE_EMBEDDERS is empty: name at least one, such as minilm")
        return names[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSettings:
    """The settings of all embedders of a process."""

    openai: OpenAiSettings
    worker: EmbedWorkerSettings = field(default_factory=EmbedWorkerSettings)
    named: EmbedderNames = field(default_factory=EmbedderNames)
    minilm_jar: Path | None = setting(
        "TIDEGATE_MINILM_JAR", None, help="The jar that carries all-MiniLM-L6-v2; `tidegate up` sets it"
    )
    threads: int = setting(
        "TIDEGATE_EMBEDDER_THREADS", 0, help="Threads of a local model; 0: one less than cores", minimum=0
    )
    custom_deadline_s: float = setting(
        "TIDEGATE_EMBEDDER_DEADLINE", 60.0, help="For a call of an embedder of your own", unit="s", minimum=0.001
    )

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the embedders, the default first."""
        return entries_of(self.named.embedders)

    @property
    def threads_count(self) -> int:
        """Return the number of threads of a local model."""
        return self.threads or max(1, (os.cpu_count() or 1) - 1)
