"""The answer of `/v1/embeddings` as vectors in the order of the request. Pure."""

import base64
import binascii
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

# A float in JSON as the longest of servers write it, and what else belongs to one input.
BYTES_PER_NUMBER = 32
BYTES_PER_INPUT = 1024
BYTES_AROUND = 64 * 1024


class AnswerInvalid(Exception):
    """The answer cannot be read or does not fit the request; the text says why."""


class _Item(msgspec.Struct, frozen=True):
    index: int
    embedding: list[float] | str


class _Answer(msgspec.Struct, frozen=True):
    data: list[_Item]


_DECODER = msgspec.json.Decoder(_Answer)


def bytes_max(*, inputs_count: int, dimensions: int) -> int:
    """Return how long an answer to *inputs_count* inputs may be."""
    return BYTES_AROUND + inputs_count * (BYTES_PER_INPUT + dimensions * BYTES_PER_NUMBER)


def vectors_in(body: bytes, *, inputs_count: int) -> Sequence[Any]:
    """
    Return the vectors of an answer by their `index`, normalised; dimensions and numbers are the guard's to check.

    Raises:
        AnswerInvalid: no JSON of that form, or not exactly one vector for each input.
    """
    try:
        items = _DECODER.decode(body).data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # the last one by deep nesting
        raise AnswerInvalid(f"no answer of /v1/embeddings: {error}") from error
    found: dict[int, _Item] = {}
    for item in items:
        if not 0 <= item.index < inputs_count:
            raise AnswerInvalid(f"a vector for input {item.index}, and there were {inputs_count}")
        if item.index in found:
            raise AnswerInvalid(f"two vectors for input {item.index}")
        found[item.index] = item
    if len(found) < inputs_count:
        raise AnswerInvalid(f"{len(found)} vectors for {inputs_count} inputs")
    return [_normalised(_numbers(found[index])) for index in range(inputs_count)]


def _numbers(item: _Item) -> Any:
    if isinstance(item.embedding, list):
        return np.array(item.embedding, dtype=np.float64)
    try:
        content = base64.b64decode(item.embedding, validate=True)
        return np.array(struct.unpack(f"<{len(content) // 4}f", content), dtype=np.float64)
    except (binascii.Error, struct.error, ValueError) as error:
        raise AnswerInvalid(f"input {item.index}: no base64 of 32 bit floats") from error


def _normalised(vector: Any) -> Any:
    """Return a vector of length 1; one that has no direction as it is, for the guard to refuse."""
    norm = np.linalg.norm(vector)
    return vector / norm if np.isfinite(norm) and norm > 0 else vector
