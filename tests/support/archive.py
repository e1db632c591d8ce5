"""Archived objects for tests: in memory, and in whatever way a storage may fail."""

import io
import threading
from collections.abc import Iterator, Sequence
from typing import IO

from schemas.archive import lines
from schemas.archive.footer import Footer, FooterInvalid, from_tail
from schemas.archive.lines import Line
from schemas.archive.names import Branch, ObjectName
from schemas.archive.objects import ObjectDamaged, ObjectWriter, check_name, read_object
from schemas.archive.storage import ArchiveStorage, ObjectMissing, StorageAway, StoredArchive


class MemoryArchive:
    """`ArchiveStorage` in memory; the next puts fail as they are told to."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.names: dict[str, ObjectName] = {}
        self.failures: list[str] = []  # of the next calls of create: away, in_doubt, conflict
        self.puts = 0
        self.held: threading.Event | None = None  # a put waits for it
        self.putting = threading.Event()  # set once a put has begun
        self.deleted: list[int] = []

    def create(self, name: ObjectName, content: IO[bytes]) -> bool:
        """See `ArchiveStorage.create`."""
        content.seek(0)
        whole = content.read()
        self.puts += 1
        self.putting.set()
        if self.held is not None:
            self.held.wait(10)
        failure = self.failures.pop(0) if self.failures else None
        if failure == "away":
            raise StorageAway("the storage is away")
        if failure == "conflict":
            return False
        if name.key in self.objects:
            return False
        self.objects[name.key], self.names[name.key] = whole, name
        if failure == "in_doubt":
            raise StorageAway("the answer was lost")
        return True

    def size_of(self, name: ObjectName) -> int | None:
        """See `ArchiveStorage.size_of`."""
        found = self.objects.get(name.key)
        return None if found is None else len(found)

    def list(self, prefix: str) -> Iterator[StoredArchive]:
        """See `ArchiveStorage.list`."""
        for key, whole in reversed(self.objects.items()):
            if key.startswith(prefix):
                yield StoredArchive(name=self.names[key], size_bytes=len(whole))

    def footer(self, name: ObjectName, size_bytes: int) -> Footer:
        """See `ArchiveStorage.footer`."""
        whole = self.objects.get(name.key)
        if whole is None:
            raise ObjectMissing(name.key)
        assert size_bytes == len(whole)
        try:
            footer = from_tail(whole)
        except FooterInvalid as error:
            raise ObjectDamaged(str(error)) from error
        check_name(footer, name)
        return footer

    def chunks(self, name: ObjectName) -> Iterator[bytes]:
        """See `ArchiveStorage.chunks`."""
        if name.key not in self.objects:
            raise ObjectMissing(name.key)
        yield self.objects[name.key]

    def delete(self, name: ObjectName) -> None:
        """See `ArchiveStorage.delete`."""
        self.deleted.append(name.first)
        self.objects.pop(name.key, None)


def archived(storage: ArchiveStorage, branch: Branch) -> dict[int, list[Line]]:
    """Return the records of a partition's objects, each object by the offset in its name; all of them are proven."""
    found = sorted(storage.list(branch.prefix), key=lambda each: each.name.first)
    return {each.name.first: [line for _, line in read_object(storage.chunks(each.name), each.name)] for each in found}


def put(
    storage: ArchiveStorage, name: ObjectName, offsets: Sequence[int], *, timestamp_ms: int = 0, key: bytes = b"k"
) -> None:
    """Put the object of records at *offsets*, each a millisecond after the one before."""
    out = io.BytesIO()
    writer = ObjectWriter(out, name)
    for number, offset in enumerate(offsets):
        line = lines.write(
            topic=name.branch.topic,
            partition=name.branch.partition,
            offset=offset,
            timestamp=timestamp_ms + number,
            key=key,
            headers=[("tenant", b"demo"), ("attempt", b"9")],
            record=None,
            value=b"value %d" % offset,
        )
        writer.add(line, offset=offset, timestamp=timestamp_ms + number)
    writer.end()
    assert storage.create(name, out)
