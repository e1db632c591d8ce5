"""The port to object storage."""

from typing import Protocol


class ObjectStorage(Protocol):
    """
    The storage of payloads too large for the log.

    An object is named by its content and never changes, so that a call may be repeated or abandoned at any time. The
    caller bounds the wait. Both methods raise ObjectsUnavailable when the storage is away or refuses: answer 503.
    """

    async def put(self, key: str, content: bytes) -> None:
        """
        Keep *content* under *key*; on return it can be read as a whole.

        Also where it is there already: that makes it young again for whoever collects old objects without a record.
        """

    async def get(self, key: str, *, size_bytes: int) -> bytes | None:
        """
        Return what is kept under *key*; None if there is nothing.

        Raises:
            Damaged: it has another size; it was not read.
        """


class Damaged(Exception):
    """An object is not what its reference says. Never show it."""
