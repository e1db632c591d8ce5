"""
The archive's retention: objects go when their newest record is old enough, oldest first.

So a chain only loses its beginning. Its newest object stays, whatever its age: it says how far the archive goes.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from processors.runtime.errors import Transient
from schemas.archive.footer import Footer
from schemas.archive.names import ObjectName
from schemas.archive.objects import ObjectDamaged
from schemas.archive.storage import ArchiveStorage, ObjectMissing, StorageAway, StoredArchive, branches, prefix_of


class Removal:
    """The removal of one topic's old objects."""

    def __init__(
        self,
        storage: ArchiveStorage,
        *,
        topic: str,
        keep: timedelta,
        clock: Callable[[], datetime],
        removed: Callable[[ObjectName], None],
    ) -> None:
        """Remove what is older than *keep*; each object that went is reported to *removed*."""
        self._storage = storage
        self._topic = topic
        self._keep = keep
        self._clock = clock
        self._removed = removed

    async def run(self) -> None:
        """
        Remove what is old enough now.

        Raises:
            Transient: object storage is away, or an object's age cannot be told.
        """
        await asyncio.to_thread(self._run)

    def _run(self) -> None:
        before_ms = int((self._clock() - self._keep).timestamp() * 1000)
        try:
            for found in branches(self._storage.list(prefix_of(self._topic))).values():
                for name in self._old(found, before_ms):
                    self._storage.delete(name)
                    self._removed(name)
        except StorageAway as error:
            raise Transient(str(error)) from error

    def _old(self, found: Sequence[StoredArchive], before_ms: int) -> Iterator[ObjectName]:
        for each in found[:-1]:
            footer = self._footer(each)
            if footer is None:
                continue
            if footer.last_ms >= before_ms:
                return
            yield each.name

    def _footer(self, stored: StoredArchive) -> Footer | None:
        """Return the footer; None if another worker has removed the object meanwhile."""
        try:
            return self._storage.footer(stored.name, stored.size_bytes)
        except ObjectMissing:
            return None
        except ObjectDamaged as error:
            raise Transient(f"{stored.name.key}: {error}; see `tidegate archive verify`") from error
