"""The frames between a process and its children: a length of four bytes, and a message in MessagePack."""

import socket
import struct
import threading
from typing import Any

import msgspec

LENGTH = struct.Struct("!I")
FRAME_BYTES_MAX = 16 * 1024 * 1024
READ_BYTES = 256 * 1024

_ENCODE = msgspec.msgpack.Encoder().encode


def framed(message: msgspec.Struct) -> bytes:
    """Return the frame of *message*."""
    body = _ENCODE(message)
    return LENGTH.pack(len(body)) + body


class FrameBuffer:
    """Bytes as they arrive, cut into the bodies of frames."""

    __slots__ = ("_bytes", "_bytes_max")

    def __init__(self, *, bytes_max: int = FRAME_BYTES_MAX) -> None:
        """Refuse a body of more than *bytes_max*."""
        self._bytes = bytearray()
        self._bytes_max = bytes_max

    def feed(self, received: bytes) -> list[bytes]:
        """Return the bodies of the frames that *received* completes. Raises ValueError: a length beyond the bound."""
        self._bytes += received
        bodies: list[bytes] = []
        at = 0
        while len(self._bytes) - at >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._bytes, at)
            if length > self._bytes_max:
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

    def __init__(
        self,
        connection: socket.socket,
        decoder: msgspec.msgpack.Decoder[Any],
        *,
        bytes_max: int = FRAME_BYTES_MAX,
    ) -> None:
        """Read bodies of up to *bytes_max* with *decoder*."""
        self._connection = connection
        self._decoder = decoder
        self._buffer = FrameBuffer(bytes_max=bytes_max)
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
