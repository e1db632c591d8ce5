"""
Archived objects in object storage: created, never changed, listed, read and removed. Every call blocks.

A put only creates. It may end with an object though it failed, and S3 also tells of a conflict where nothing was
written (409, apache/arrow-rs-object-store#852): only `size_of` says whether there is an object.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Protocol

from schemas.archive import names
from schemas.archive.footer import TAIL_BYTES, Footer, FooterInvalid, FooterLonger, from_tail
from schemas.archive.names import Branch, ObjectName
from schemas.archive.objects import ObjectDamaged, check_name
from schemas.objects.stores import ERRORS, EXISTS, is_away, is_no_object, open_store, sync

RETRIES_MAX = 4
RETRY_S = 60.0
LISTED_AT_ONCE = 1000
CHUNK_BYTES = 1024 * 1024
FOLDER_AWAY = "the folder of object storage is not there"


class StorageAway(Exception):
    """Object storage does not answer, or refuses; a put that was under way is in doubt. Try again later."""


class ObjectMissing(Exception):
    """There is no object of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArchive:
    """An archived object as a listing has it."""

    name: ObjectName
    size_bytes: int


class ArchiveStorage(Protocol):
    """The port to archived objects. Every method raises StorageAway."""

    def create(self, name: ObjectName, content: IO[bytes]) -> bool:
        """Create the object; False if there may be one, which is left as it is."""

    def size_of(self, name: ObjectName) -> int | None:
        """Return the object's size in bytes; None if there is none."""

    def list(self, prefix: str) -> Iterator[StoredArchive]:
        """Yield the objects whose names begin with *prefix*, in any order."""

    def footer(self, name: ObjectName, size_bytes: int) -> Footer:
        """Return the footer of the object, which has *size_bytes*. Raises ObjectDamaged, ObjectMissing."""

    def chunks(self, name: ObjectName) -> Iterator[bytes]:
        """Yield the object's content. Raises ObjectMissing."""

    def delete(self, name: ObjectName) -> None:
        """Delete the object; one that is not there is no error."""


class ObstoreArchive:
    """`ArchiveStorage` by the library obstore: a folder, or a bucket that speaks S3."""

    def __init__(self, location: str) -> None:
        """
        Prepare.

        Raises:
            SettingsInvalid: see `open_store`.
        """
        self._store = open_store(location, retries_max=RETRIES_MAX, retry_s=RETRY_S)

    def create(self, name: ObjectName, content: IO[bytes]) -> bool:
        """See `ArchiveStorage.create`."""
        content.seek(0)
        try:
            with self._failures():
                # In one piece: an upload in parts can overwrite.
                self._store.put(name.key, content, mode="create", use_multipart=False)
        except EXISTS:
            return False
        with self._failures():
            sync(self._store, name.key)
        return True

    def size_of(self, name: ObjectName) -> int | None:
        """See `ArchiveStorage.size_of`."""
        try:
            with self._failures():
                return self._store.head(name.key)["size"]
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[StoredArchive]:
        """See `ArchiveStorage.list`."""
        with self._failures():
            if is_away(self._store):  # a folder that is not there has no objects, and no error
                raise StorageAway(FOLDER_AWAY)
            for page in self._store.list(prefix, chunk_size=LISTED_AT_ONCE):
                for each in page:
                    if (name := names.parse(each["path"])) is not None:
                        yield StoredArchive(name=name, size_bytes=each["size"])

    def footer(self, name: ObjectName, size_bytes: int) -> Footer:
        """See `ArchiveStorage.footer`."""
        tail_bytes = min(size_bytes, TAIL_BYTES)
        while True:
            try:
                footer = from_tail(self._tail(name, size_bytes, tail_bytes))
            except FooterLonger as longer:
                if longer.size_bytes > size_bytes:
                    raise ObjectDamaged("it does not end with a footer") from longer
                tail_bytes = longer.size_bytes
            except FooterInvalid as error:
                raise ObjectDamaged(str(error)) from error
            else:
                check_name(footer, name)
                return footer

    def chunks(self, name: ObjectName) -> Iterator[bytes]:
        """See `ArchiveStorage.chunks`."""
        try:
            with self._failures():
                for chunk in self._store.get(name.key).stream(min_chunk_size=CHUNK_BYTES):
                    yield bytes(chunk)
        except FileNotFoundError as error:
            raise ObjectMissing(name.key) from error

    def delete(self, name: ObjectName) -> None:
        """See `ArchiveStorage.delete`."""
        try:
            with self._failures():
                self._store.delete(name.key)
        except FileNotFoundError:
            return

    def _tail(self, name: ObjectName, size_bytes: int, tail_bytes: int) -> bytes:
        if not tail_bytes:
            raise ObjectDamaged("it is empty")
        try:
            with self._failures():
                return bytes(self._store.get_range(name.key, start=size_bytes - tail_bytes, length=tail_bytes))
        except FileNotFoundError as error:
            raise ObjectMissing(name.key) from error

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Raise StorageAway for whatever does not concern the object itself."""
        try:
            yield
        except EXISTS:
            raise
        except FileNotFoundError as error:
            if is_away(self._store):
                raise StorageAway(FOLDER_AWAY) from error
            if not is_no_object(error):
                raise StorageAway(f"object storage is away: {str(error)[:500]}") from error
            raise
        except ERRORS as error:
            raise StorageAway(f"object storage is away: {str(error)[:500]}") from error


def branches(found: Iterator[StoredArchive]) -> dict[Branch, list[StoredArchive]]:
    """Return the objects *found* by the partition that they are of, each in order."""
    by_branch: dict[Branch, list[StoredArchive]] = {}
    for each in found:
        by_branch.setdefault(each.name.branch, []).append(each)
    return {branch: sorted(by_branch[branch], key=lambda each: each.name.first) for branch in sorted(by_branch)}


def prefix_of(topic: str | None = None, topic_id: str | None = None) -> str:
    """Return what the names of all archived objects begin with, or those of a topic."""
    return "/".join([names.PREFIX, *(each for each in (topic, topic_id) if each is not None)]) + "/"
