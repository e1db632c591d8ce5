"""
Object storage as maintenance needs it: listed, and what is old deleted.

The same folder or bucket as the gateway's, told in the same words (`TIDEGATE_OBJECTS`, AWS's variables).
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from processors.maintenance.rules import StoredObject
from processors.runtime.errors import Transient
from schemas.objects import S3_SCHEME
from schemas.settings import SettingsInvalid

LISTED_AT_ONCE = 1000
RETRIES_MAX = 4
RETRY_TIMEOUT = timedelta(seconds=30)


class Objects(Protocol):
    """
    Where large payloads are kept.

    Every method raises Transient when the storage is away or refuses.
    """

    def pages(self) -> AsyncIterator[Sequence[StoredObject]]:
        """Everything there is, some at a time."""

    async def look(self, key: str) -> StoredObject | None:
        """The object as it is now; None if there is none."""

    async def delete(self, key: str) -> None:
        """Delete the object; one that is not there is no error."""


class ObstoreObjects:
    """`Objects` by the library obstore: a folder, or a bucket that speaks S3."""

    def __init__(self, location: str) -> None:
        """
        Prepare; nothing is looked at.

        Raises:
            SettingsInvalid: *location* is no folder and no s3://bucket/prefix.
        """
        try:
            self._store = _bucket(location) if location.startswith(S3_SCHEME) else _folder(location)
        except (BaseError, OSError, ValueError) as error:
            raise SettingsInvalid(f"TIDEGATE_OBJECTS={location}: {error}") from error

    async def pages(self) -> AsyncIterator[Sequence[StoredObject]]:
        """See `Objects.pages`."""
        with _failures():
            async for page in self._store.list(chunk_size=LISTED_AT_ONCE):
                yield [
                    StoredObject(key=each["path"], size_bytes=each["size"], modified_at=each["last_modified"])
                    for each in page
                ]

    async def look(self, key: str) -> StoredObject | None:
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
                if "NoSuchBucket" in str(error):
                    raise


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError, ValueError) as error:  # what the library raises, by its documentation
        raise Transient(f"object storage is away: {str(error)[:500]}") from error


def _bucket(location: str) -> S3Store:
    return S3Store.from_url(location, retry_config={"max_retries": RETRIES_MAX, "retry_timeout": RETRY_TIMEOUT})


def _folder(location: str) -> LocalStore:
    if "://" in location:
        raise ValueError("neither a folder nor s3://bucket/prefix")
    folder = Path(location).expanduser().absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A folder that is empty goes with its last object; the gateway makes it again where it needs it.
    return LocalStore(folder, automatic_cleanup=True)
