"""`ObjectStorage` by the library obstore."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import ObjectsUnavailable
from gateway.objects.storage import Damaged
from schemas.objects.stores import ERRORS, is_no_object, open_store

RETRIES_MAX = 2
RETRY_S = 5.0


class ObstoreStorage:
    """Objects below a folder or a bucket's prefix."""

    def __init__(self, location: str) -> None:
        """
        Prepare.

        Raises:
            SettingsInvalid: see `open_store`.
        """
        self._store = open_store(location, retries_max=RETRIES_MAX, retry_s=RETRY_S)

    async def put(self, key: str, content: bytes) -> None:
        """Keep *content* under *key*; see `ObjectStorage.put`."""
        with _failures():
            # In one piece: what is left of a broken multipart upload is stored, and nobody lists it.
            await self._store.put_async(key, content, use_multipart=False)

    async def get(self, key: str, *, size_bytes: int) -> bytes | None:
        """Return what is kept under *key*; see `ObjectStorage.get`."""
        with _failures():
            try:
                found = await self._store.get_async(key)
            except FileNotFoundError as error:
                if is_no_object(error):
                    return None
                raise
            if found.meta["size"] != size_bytes:
                raise Damaged(f"{found.meta['size']} bytes, not {size_bytes}")
            return bytes(await found.bytes_async())


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except ERRORS as error:
        # The library's text has addresses and names, which are for the log and not for clients.
        raise ObjectsUnavailable("large payloads cannot be kept or shown now; nothing was written") from error
