"""
The outgoing messages of one socket: a bounded queue in front of its transport.

There is no task per socket: to wake a thousand of them for each event costs more than the event. `flush` writes all
queued messages in one piece, straight to the transport, while that has nothing unsent; otherwise they wait here, and
`Backlog` tries again.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from processors.fanout.messages import Message

MESSAGES_MAX = 1000
BYTES_MAX = 4 * 1024 * 1024
WRITE_BYTES = 128 * 1024  # handed to the transport at once, when it has nothing left of the last


class Transport(Protocol):
    """The part of asyncio's transport that is needed here."""

    def write(self, data: bytes) -> None:
        """Send *data*, now or when there is room."""

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are not sent yet."""

    def is_closing(self) -> bool:
        """Return True if nothing can be written any more."""


class Outbox:
    """The queue of one socket."""

    __slots__ = (
        "_clock",
        "_closed",
        "_later",
        "_messages_max",
        "_overflows",
        "_queue",
        "_transport",
        "cursor",
        "moved_at_s",
        "size_bytes",
    )

    def __init__(
        self,
        transport: Transport,
        *,
        later: "Callable[[Outbox], None]",
        overflows: Callable[[], None],
        clock: Callable[[], float],
        messages_max: int = MESSAGES_MAX,
    ) -> None:
        """Write to *transport*; what has to wait is told to *later*, what has no room calls *overflows*, once."""
        self._messages_max = messages_max
        self._transport = transport
        self._later = later
        self._overflows = overflows
        self._clock = clock
        self._queue: deque[Message] = deque()
        self._closed = False
        self.size_bytes = 0
        self.cursor: str | None = None  # of the last message that was handed to the transport
        self.moved_at_s = clock()  # when something was handed over, or nothing waited

    def put(self, message: Message) -> None:
        """Take *message* to be written by the next `flush`; without room the socket ends, and nothing more is taken."""
        if self._closed:
            return
        size_bytes = self.size_bytes + len(message.frame)
        # A message above the bound passes where it is the only one.
        if self._queue and (len(self._queue) >= self._messages_max or size_bytes > BYTES_MAX):
            self.close()
            self._overflows()
            return
        self._queue.append(message)
        self.size_bytes = size_bytes

    def flush(self) -> None:
        """Write what the transport has room for, in one piece."""
        if not self._queue or self._closed:
            return
        if self._transport.is_closing():
            self.close()
            return
        if self._transport.get_write_buffer_size():
            self._later(self)
            return
        self.moved_at_s = self._clock()
        self._transport.write(self._next_piece())
        if self._queue:
            self._later(self)

    def has_room(self, size_bytes: int) -> bool:
        """Return True if a message of so many bytes would be taken."""
        return not self._queue or (len(self._queue) < self._messages_max and self.size_bytes + size_bytes <= BYTES_MAX)

    def unsent_bytes(self) -> int:
        """Return what waits here and in the transport."""
        return self.size_bytes + self._transport.get_write_buffer_size()

    def is_half_empty(self) -> bool:
        """Return True if it is worth reading the log for this socket."""
        return len(self._queue) <= self._messages_max // 2 and self.size_bytes <= BYTES_MAX // 4

    def waits(self) -> bool:
        """Return True if something is left to be written."""
        return bool(self._queue) and not self._closed

    def waiting(self) -> "deque[Message]":
        """Return what is left to be written."""
        return self._queue

    def close(self) -> None:
        """Close the outbox: drop what waits, and take and write nothing more."""
        self._closed = True
        self._queue.clear()
        self.size_bytes = 0

    def _next_piece(self) -> bytes:
        message = self._queue.popleft()
        if not self._queue:  # nearly always
            self.size_bytes = 0
            self.cursor = message.cursor or self.cursor
            return message.frame
        frames, size_bytes = [message.frame], len(message.frame)
        while self._queue and size_bytes < WRITE_BYTES:
            self.cursor = message.cursor or self.cursor
            message = self._queue.popleft()
            frames.append(message.frame)
            size_bytes += len(message.frame)
        self.cursor = message.cursor or self.cursor
        self.size_bytes -= size_bytes
        return b"".join(frames)
