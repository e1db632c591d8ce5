"""
The contract of embedders, which turn texts into vectors; numpy is not needed to import it.

Two vectors may be compared only if their embedders have one `id`. Equal names mean nothing: another export of a model
has the same name and dimension, and its vectors lie elsewhere.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

if TYPE_CHECKING:  # a process without the extra `documents` has no numpy
    import numpy as np
    from numpy.typing import NDArray

# Strings, because they are read where numpy may be missing.
Vector: TypeAlias = "NDArray[np.float32]"
"""One dimension, L2-normalised, and representable as float16."""
Embedded: TypeAlias = "Vector | EmbeddingFailed"
"""The result for one text."""

Span: TypeAlias = tuple[int, int]
"""Start and end in a text, in code points; the end is exclusive."""


class TextKind(StrEnum):
    """The role of a text: some models embed what is searched and what searches differently."""

    PASSAGE = "passage"
    QUERY = "query"


class FailureReason(StrEnum):
    """The reason for which a text has no vector."""

    EMPTY = "empty"  # nothing but white space
    NO_UNICODE = "no_unicode"  # it has lone surrogates
    TOO_LONG = "too_long"  # over `tokens_max`: split it again, it is never cut
    REFUSED = "refused"  # a remote embedder accepts others, not this one
    BAD_VECTOR = "bad_vector"  # wrong dimension, not finite, or not normalised
    BAD_ANSWER = "bad_answer"  # a remote embedder's answer cannot be read or does not fit the request
    AWAY = "away"  # others of the same call have vectors; for this one the embedder was away
    CONFIGURATION = "configuration"  # wrong key, model or address: nothing succeeds until an operator changes it
    MODEL = "model"  # the model or a custom embedder raised an error


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingFailed:
    """The failure of one text; the others of its call have results of their own. `detail` is for people."""

    reason: FailureReason
    detail: str
    is_retryable: bool  # the same text may succeed later


class EmbedderAway(Exception):
    """The embedder cannot serve now, and nothing was embedded. Retry the whole call, after `retry_after_s` if given."""

    def __init__(self, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class TokenizingFailed(Exception):
    """A custom embedder cannot split a text into tokens. Do not retry; the text says what is wrong with it."""


class Embedder(Protocol):
    """
    The port to a model.

    An implementation is deterministic up to rounding and serves any number of calls at a time. Those that `loading`
    hands out are guarded: each vector has been checked, and nothing but what is documented here is raised.
    """

    @property
    def id(self) -> str:
        """Return 64 hexadecimal digits: a SHA-256 of all that decides what vectors come out. See `identity`."""

    @property
    def name(self) -> str:
        """Return the name that settings use."""

    @property
    def dimensions(self) -> int:
        """Return the length of each vector."""

    @property
    def tokens_max(self) -> int:
        """Return how many tokens a text may have, as `tokens` counts them."""

    @property
    def is_local(self) -> bool:
        """True if the model runs in this process, so that the processor's cores are its limit."""

    def tokens(self, text: str) -> Sequence[Span]:
        """
        Return the place of each token in *text*; neither starts nor ends ever fall, and two tokens may share a place.

        It takes about a second for two million characters: call it in a thread for long texts.

        Raises:
            TokenizingFailed: a custom embedder raised an error or gave spans that are outside of the text.
        """

    async def embed(self, texts: Sequence[str], *, kind: TextKind) -> "Sequence[Embedded]":
        """
        Return a vector or a failure for each of *texts*, in their order.

        A call may be cancelled; at most what is under way is then finished unseen.

        Raises:
            EmbedderAway: nothing was embedded. Retry the call later.
        """

    async def close(self) -> None:
        """Release what the embedder holds; nothing is called afterwards."""


EmbedderFactory: TypeAlias = Callable[[], Embedder]
"""An entry point of the group `tidegate.embedders`; it may take its time, because it is called in a thread."""


def identity(**parts: str | int | bool | None) -> str:
    """Return an embedder's id from all that decides its vectors: hashes of files, pooling, prefixes, bounds."""
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()
