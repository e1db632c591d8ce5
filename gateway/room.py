"""How much is being read of bodies, over all connections: whoever sends slowly must not fill the memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import QueueFull

BODIES_BYTES_MAX = 128 * 1024 * 1024  # on their way; what is whole is bounded where it waits


class Share:
    """What one body takes of the room."""

    def __init__(self, room: "Room") -> None:
        """Take nothing yet."""
        self._room = room
        self.taken_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Take so many bytes more. Raises QueueFull where there is no room for them."""
        if self._room.taken_bytes + size_bytes > self._room.bytes_max:
            raise QueueFull("too much is on its way; nothing was written")
        self._room.taken_bytes += size_bytes
        self.taken_bytes += size_bytes


class Room:
    """The room that all bodies share while they are read."""

    def __init__(self, bytes_max: int = BODIES_BYTES_MAX) -> None:
        """Be empty."""
        self.bytes_max = bytes_max
        self.taken_bytes = 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """A share, given back at the end of the context."""
        share = Share(self)
        try:
            yield share
        finally:
            self.taken_bytes -= share.taken_bytes
