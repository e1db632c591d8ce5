"""
`ObjectStorage` by the library obstore: a folder of this machine, or a bucket that speaks S3.

Endpoint, region and credentials are AWS's usual environment variables, which the library reads by itself
(AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, ...; AWS_ALLOW_HTTP=true admits an endpoint without TLS). It does so
only while no client options are given here; waits are bounded by who calls.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from gateway.errors import ObjectsUnavailable
from gateway.objects.storage import Damaged
from schemas.objects import S3_SCHEME

RETRIES_MAX = 2
BACKOFF_FIRST = timedelta(milliseconds=100)
BACKOFF_MAX = timedelta(seconds=1)
RETRY_TIMEOUT = timedelta(seconds=5)


class LocationInvalid(ValueError):
    """TIDEGATE_OBJECTS names nothing that objects can be kept in. Do not start; the text says why."""


class ObstoreStorage:
    """Objects below a folder or a bucket's prefix."""

    def __init__(self, location: str) -> None:
        """
        Prepare; a folder is made if it is missing, a bucket is not looked at.

        Raises:
            LocationInvalid: no folder that can be made, and no s3://bucket/prefix.
        """
        self._store: LocalStore | S3Store = _bucket(location) if location.startswith(S3_SCHEME) else _folder(location)

    async def put(self, key: str, content: bytes) -> None:
        """Keep *content* under *key*; see `ObjectStorage.put`."""
        with _failures():
            # In one piece: what is left of a broken multipart upload is stored, and nobody lists it.
            await self._store.put_async(key, content, use_multipart=False)

    async def get(self, key: str, *, size_bytes: int) -> bytes | None:
        """What is kept under *key*; see `ObjectStorage.get`."""
        with _failures():
            try:
                found = await self._store.get_async(key)
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None
            if found.meta["size"] != size_bytes:
                raise Damaged(f"{found.meta['size']} bytes, not {size_bytes}")
            return bytes(await found.bytes_async())


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError, ValueError) as error:  # what the library raises, by its documentation
        # The library's text has addresses and names, which are for the log and not for clients.
        raise ObjectsUnavailable("large payloads cannot be kept or shown now; nothing was written") from error


def _bucket(location: str) -> S3Store:
    try:
        return S3Store.from_url(
            location,
            retry_config={
                "max_retries": RETRIES_MAX,
                "retry_timeout": RETRY_TIMEOUT,
                "backoff": {"init_backoff": BACKOFF_FIRST, "max_backoff": BACKOFF_MAX},
            },
        )
    except (BaseError, ValueError) as error:
        raise LocationInvalid(f"{location} is no s3://bucket/prefix: {error}") from error


def _folder(location: str) -> LocalStore:
    if "://" in location:
        raise LocationInvalid(f"{location} is neither a folder nor s3://bucket/prefix")
    folder = Path(location).expanduser().absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LocationInvalid(f"{folder}: {error.strerror}") from error
    return LocalStore(folder)
