"""A bound on the body bytes held over all connections, so that slow senders cannot fill the memory."""

from gateway.errors import QueueFull

BODIES_BYTES_MAX = 128 * 1024 * 1024  # on their way; what is whole is bounded where it waits


class BodyBudget:
    """The room that all bodies share while they are read."""

    def __init__(self, bytes_max: int = BODIES_BYTES_MAX) -> None:
        """Start with nothing reserved."""
        self.taken_bytes = 0
        self._bytes_max = bytes_max

    def reserve(self, size_bytes: int) -> None:
        """Take so many bytes more. Raises QueueFull, and takes none, where there is no room for them."""
        if self.taken_bytes + size_bytes > self._bytes_max:
            raise QueueFull("too many uploads in progress; nothing was written")
        self.taken_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Give back what was taken."""
        self.taken_bytes -= size_bytes
