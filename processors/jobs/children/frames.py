"""The frames between an executor and its children: a length of four bytes, and a message in MessagePack."""

import socket
import struct
import threading
from typing import Any

import msgspec

from processors.jobs.context import Ending

LENGTH = struct.Struct("!I")
FRAME_BYTES_MAX = 16 * 1024 * 1024
READ_BYTES = 256 * 1024


class Run(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="frame", array_like=True):
    """Executor to child: run a task."""

    attempt_id: str
    job_id: str
    number: int
    failed_attempts: int
    type: str
    function: str
    parameters: bytes  # JSON
    tenant: str
    user_id: str | None
    soft_limit_s: float
    folder: str


class Interrupt(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="frame", array_like=True):
    """Executor to child: stop the task of this attempt, and of no other."""

    attempt_id: str
    kind: Ending  # soft_limit, cancelled or interrupted


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="frame", array_like=True):
    """Child to executor: how far the task is."""

    attempt_id: str
    fraction: float | None
    message: str | None


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="frame", array_like=True):
    """Child to executor: the end of a task."""

    attempt_id: str
    ending: Ending
    result: bytes | None = None  # JSON
    summary: bytes | None = None  # JSON
    is_partial: bool = False
    reason: str | None = None  # beside a failure, where it is not an error of the task's own
    error_type: str | None = None
    error: str | None = None
    traceback: str | None = None
    after_s: float | None = None  # until the next attempt
    is_final: bool = False  # no attempt follows
    cpu_s: float = 0.0
    is_retiring: bool = False  # the child takes no more tasks


_ENCODE = msgspec.msgpack.Encoder().encode
OF_EXECUTOR: msgspec.msgpack.Decoder[Run | Interrupt] = msgspec.msgpack.Decoder(Run | Interrupt)
OF_CHILD: msgspec.msgpack.Decoder[Progress | Ended] = msgspec.msgpack.Decoder(Progress | Ended)


def framed(message: msgspec.Struct) -> bytes:
    """Return the frame of *message*."""
    body = _ENCODE(message)
    return LENGTH.pack(len(body)) + body


class FrameBuffer:
    """Bytes as they arrive, cut into the bodies of frames."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, received: bytes) -> list[bytes]:
        """Return the bodies of the frames that *received* completes. Raises ValueError: a length beyond the bound."""
        self._bytes += received
        bodies: list[bytes] = []
        at = 0
        while len(self._bytes) - at >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._bytes, at)
            if length > FRAME_BYTES_MAX:
                raise ValueError(f"a frame of {length} bytes")
            end = at + LENGTH.size + length
            if len(self._bytes) < end:
                break
            bodies.append(bytes(self._bytes[at + LENGTH.size : end]))
            at = end
        del self._bytes[:at]
        return bodies


class Frames:
    """The frames of a blocking socket, as a child reads and writes them."""

    def __init__(self, connection: socket.socket, decoder: msgspec.msgpack.Decoder[Any]) -> None:
        """Read with *decoder*."""
        self._connection = connection
        self._decoder = decoder
        self._buffer = FrameBuffer()
        self._bodies: list[bytes] = []
        self._writing = threading.Lock()  # a thread that a task left behind may report while the task's end is written

    def read(self) -> Any:
        """Return the next message; None at the end of the connection, or where a socket without blocking has none."""
        while not self._bodies:
            try:
                received = self._connection.recv(READ_BYTES)
            except BlockingIOError:
                return None
            if not received:
                return None
            self._bodies = self._buffer.feed(received)
        return self._decoder.decode(self._bodies.pop(0))

    def write(self, message: msgspec.Struct) -> None:
        """Send *message*."""
        frame = framed(message)
        with self._writing:
            self._connection.sendall(frame)
