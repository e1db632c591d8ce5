"""
The storage of large payloads and of archived records, as `TIDEGATE_OBJECTS` names it: a folder, or a bucket.

A folder is one of this machine, a bucket any that is S3-compatible. Endpoint, region and credentials are AWS's usual
environment variables, which the library obstore reads by itself (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, ...;
AWS_ALLOW_HTTP=true admits an endpoint without TLS). It does so only while no client options are given here; the callers
bound the waits.
"""

import os
from datetime import timedelta
from pathlib import Path

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, S3Store

from schemas.process.settings import SettingsInvalid

S3_SCHEME = "s3://"  # of a location; any other is a folder
BACKOFF_FIRST = timedelta(milliseconds=100)
BACKOFF_MAX = timedelta(seconds=1)

# What the library raises, by its documentation. FileNotFoundError is among them, also where the bucket is missing.
ERRORS = (BaseError, OSError, ValueError)
# Among them, of a put that only creates: an object of the name exists, or S3 has told of a conflict (its 409).
EXISTS = AlreadyExistsError


def open_store(
    location: str, *, retries_max: int, retry_s: float, keeps_empty_folders: bool = True
) -> LocalStore | S3Store:
    """
    Prepare the store at *location*; a folder is made if it is missing, a bucket is not looked at.

    *retries_max* and *retry_s* bound how often and how long a call of S3 is repeated. Folders that deleting has left
    empty go too unless *keeps_empty_folders*.

    Raises:
        SettingsInvalid: no folder that can be made, and no s3://bucket/prefix.
    """
    if location.startswith(S3_SCHEME):
        return _bucket(location, retries_max=retries_max, retry_s=retry_s)
    return LocalStore(_folder(location), automatic_cleanup=not keeps_empty_folders)


def is_no_object(error: FileNotFoundError) -> bool:
    """Return True if *error* says that there is no such object, and not that the bucket is missing."""
    return "NoSuchBucket" not in str(error)


def is_away(store: LocalStore | S3Store) -> bool:
    """Return True if *store* is a folder that is not there, such as one that is not mounted: it misses every object."""
    return isinstance(store, LocalStore) and store.prefix is not None and not Path(store.prefix).is_dir()


def sync(store: LocalStore | S3Store, key: str) -> None:
    """Let an object of a folder outlive a loss of power, which the library does not see to. Raises OSError."""
    if not isinstance(store, LocalStore) or store.prefix is None:
        return
    root = Path(store.prefix)
    path = root / key
    for each in (path, *(folder for folder in path.parents if folder.is_relative_to(root))):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _bucket(location: str, *, retries_max: int, retry_s: float) -> S3Store:
    try:
        return S3Store.from_url(
            location,
            retry_config={
                "max_retries": retries_max,
                "retry_timeout": timedelta(seconds=retry_s),
                "backoff": {"init_backoff": BACKOFF_FIRST, "max_backoff": BACKOFF_MAX},
            },
        )
    except (BaseError, ValueError) as error:
        raise SettingsInvalid(f"TIDEGATE_OBJECTS: {location} is no s3://bucket/prefix: {error}") from error


def _folder(location: str) -> Path:
    if "://" in location:
        raise SettingsInvalid(f"TIDEGATE_OBJECTS: {location} is neither a folder nor s3://bucket/prefix")
    folder = Path(location).expanduser().absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsInvalid(f"TIDEGATE_OBJECTS: {folder}: {error.strerror}") from error
    return folder
