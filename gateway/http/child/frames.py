"""
The messages between the gateway and its body parser, over the latter's standard input and output.

Each frame is a head (length of what follows, number of the task, kind) and a value in MessagePack. The gateway sends
the credentials in force before the first task that they are for, and again when they change; results come in any order.
"""

import struct
from asyncio import IncompleteReadError, StreamReader
from enum import IntEnum
from typing import NamedTuple

import msgspec

HEAD = struct.Struct(">IIB")
NUMBERS = 2**32  # tasks are numbered from 0 again after so many

_ENCODER = msgspec.msgpack.Encoder()


class FrameKind(IntEnum):
    """The content of a frame."""

    CREDENTIALS = 0
    TASK = 1
    RESULT = 2
    REFUSAL = 3


class Frame(NamedTuple):
    """One frame, its value not decoded yet."""

    number: int
    kind: FrameKind
    value: bytes


def frame(kind: FrameKind, value: msgspec.Struct, *, number: int = 0) -> bytes:
    """Return the bytes of one frame."""
    encoded = _ENCODER.encode(value)
    return HEAD.pack(len(encoded), number, kind) + encoded


async def read_frame(reader: StreamReader) -> Frame | None:
    """Return the next frame; None if the other end is gone."""
    try:
        length, number, kind = HEAD.unpack(await reader.readexactly(HEAD.size))
        return Frame(number, FrameKind(kind), await reader.readexactly(length))
    except IncompleteReadError:
        return None
