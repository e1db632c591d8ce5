"""
Object storage as maintenance needs it: listed, and what is old deleted.

A folder that is empty goes with its last object; the gateway makes it again where it needs it.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from processors.runs.retention.rules import StoredObject
from processors.runtime.errors import Transient
from schemas.objects.stores import ERRORS, is_no_object, open_store

LISTED_AT_ONCE = 1000
RETRIES_MAX = 4
RETRY_S = 30.0


class Objects(Protocol):
    """
    The storage of large payloads.

    Every method raises Transient when the storage is unavailable or refuses.
    """

    def pages(self) -> AsyncIterator[Sequence[StoredObject]]:
        """Yield everything there is, some at a time."""

    async def stat(self, key: str) -> StoredObject | None:
        """Return the object as it is now; None if there is none."""

    async def delete(self, key: str) -> None:
        """Delete the object; one that is not there is no error."""


class ObstoreObjects:
    """`Objects` by the library obstore: a folder, or a bucket that speaks S3."""

    def __init__(self, location: str) -> None:
        """
        Prepare.

        Raises:
            SettingsInvalid: see `open_store`.
        """
        self._store = open_store(location, retries_max=RETRIES_MAX, retry_s=RETRY_S, keeps_empty_folders=False)

    async def pages(self) -> AsyncIterator[Sequence[StoredObject]]:
        """See `Objects.pages`."""
        with _failures():
            async for page in self._store.list(chunk_size=LISTED_AT_ONCE):
                yield [
                    StoredObject(key=each["path"], size_bytes=each["size"], modified_at=each["last_modified"])
                    for each in page
                ]

    async def stat(self, key: str) -> StoredObject | None:
        """See `Objects.look`."""
        with _failures():
            try:
                found = await self._store.head_async(key)
            except FileNotFoundError:
                return None
        return StoredObject(key=key, size_bytes=found["size"], modified_at=found["last_modified"])

    async def delete(self, key: str) -> None:
        """See `Objects.delete`."""
        with _failures():
            try:
                await self._store.delete_async(key)
            except FileNotFoundError as error:
                if not is_no_object(error):
                    raise


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except ERRORS as error:
        raise Transient(f"object storage is away: {str(error)[:500]}") from error
