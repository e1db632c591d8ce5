"""
What the gateway and its judging process tell each other, over the latter's standard input and output.

Each frame is a head (length of what follows, number of the question, kind) and a value in MessagePack. The gateway
tells the credentials in force before the first question that they hold for, and again when they change; answers come
in any order.
"""

import struct
from asyncio import IncompleteReadError, StreamReader
from enum import IntEnum
from typing import NamedTuple

import msgspec

HEAD = struct.Struct(">IIB")
NUMBERS = 2**32  # questions are numbered anew after so many

_ENCODER = msgspec.msgpack.Encoder()


class Kind(IntEnum):
    """What a frame is."""

    CREDENTIALS = 0
    QUESTION = 1
    VERDICT = 2
    REFUSAL = 3


class Frame(NamedTuple):
    """One frame, its value not decoded yet."""

    number: int
    kind: Kind
    value: bytes


def frame(kind: Kind, value: msgspec.Struct, *, number: int = 0) -> bytes:
    """The bytes of one frame."""
    encoded = _ENCODER.encode(value)
    return HEAD.pack(len(encoded), number, kind) + encoded


async def read_frame(reader: StreamReader) -> Frame | None:
    """The next frame; None: the other end is gone."""
    try:
        length, number, kind = HEAD.unpack(await reader.readexactly(HEAD.size))
        return Frame(number, Kind(kind), await reader.readexactly(length))
    except IncompleteReadError:
        return None
