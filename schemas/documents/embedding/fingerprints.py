"""
Fingerprints of embedders: the vectors of three texts, to be compared with those stored at an embedder's first use.

An id says which files and settings a process has. A fingerprint says what comes out: it also notices a server that
was given another model, a tokenizer that cuts, and a processor on which int8 arithmetic saturates.
"""

import math
import struct

from schemas.documents.embedding.contract import Embedder, EmbedderAway, EmbeddingFailed, TextKind
from schemas.process.settings import SettingsInvalid

COSINE_MIN = 0.999
VECTOR_COUNT = 3
_BYTES_EACH = 4  # float32, little-endian

# Never change one: every stored fingerprint would be refused. The second is over 128 word pieces, at which the
# definition of MiniLM's tokenizer would cut; the third is not English.
CANONICAL_TEXTS = (
    "A record is appended to a partition once, and read from there as often as anybody likes.",
    (
        "The harbour master wrote down what came in with each tide. In the morning there were two barges with "
        "timber, and a ferry whose passengers complained of the fog. At noon a tug brought a lighter with grain, "
        "of which a third was wet; the miller refused it, the insurer was sent for, and the two of them stood on "
        "the quay until dusk and counted sacks. Nothing else arrived before the gate was shut. In the evening a "
        "boy found a bottle with a letter in it, in a hand that nobody at the inn could read. The harbour master "
        "entered it under the day's arrivals, after the grain, with its weight, the hour, the place where it had "
        "been found, and a remark: sender unknown, addressee unknown, freight unpaid. Years later an auditor, who "
        "had found no other mistake in eleven volumes, asked him whether this was one, and he said that he had "
        "been told to write down what came in with the tide."
    ),
    "Müde Wölfe dösen \u2014 na\u00efve caf\u00e9, 42 %, \u6f6e\u6c50, \U0001f30a.",
)


async def fingerprint(embedder: Embedder) -> bytes:
    """
    Return the vectors of the canonical texts.

    Raises:
        EmbedderAway: not now. Retry later.
        SettingsInvalid: it cannot embed one of them, and so cannot be used.
    """
    answers = await embedder.embed(CANONICAL_TEXTS, kind=TextKind.PASSAGE)
    vectors: list[bytes] = []
    for answer in answers:
        if isinstance(answer, EmbeddingFailed):
            detail = f"embedder {embedder.name} cannot embed a test text: {answer.detail}"
            if answer.is_retryable:
                raise EmbedderAway(detail)
            raise SettingsInvalid(detail)
        vectors.append(answer.astype("<f4").tobytes())
    return b"".join(vectors)


def agrees(stored: bytes, found: bytes) -> bool:
    """Return True if each vector of two fingerprints points the same way: a cosine of 0.999 or more."""
    if not stored or len(stored) != len(found) or len(stored) % (VECTOR_COUNT * _BYTES_EACH):
        return False
    size = len(stored) // VECTOR_COUNT
    return all(
        _cosine(stored[start : start + size], found[start : start + size]) >= COSINE_MIN
        for start in range(0, len(stored), size)
    )


def _cosine(one: bytes, other: bytes) -> float:
    """Return the cosine of two vectors; 0.0 if one has no direction."""
    form = f"<{len(one) // _BYTES_EACH}f"
    a, b = struct.unpack(form, one), struct.unpack(form, other)
    norm = math.sqrt(_dot(a, a)) * math.sqrt(_dot(b, b))
    return _dot(a, b) / norm if norm > 0 and math.isfinite(norm) else 0.0


def _dot(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))
