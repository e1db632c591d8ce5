"""The spool file of one object: its content as it will be put. It has no name, and ends with its process."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from processors.runtime.batch import RawRecord
from schemas.archive import lines
from schemas.archive.footer import Footer, subject_of
from schemas.archive.names import ObjectName
from schemas.archive.objects import ObjectWriter, read_object
from schemas.catalogue import CODEC
from schemas.events.records import UserEvent

CHUNK_BYTES = 1024 * 1024


class SpoolFile:
    """One object that is gathered; its methods block, and are called one after another."""

    def __init__(self, name: ObjectName, *, folder: Path | None) -> None:
        """Begin the object called *name* in a file in *folder*, or where temporary files are."""
        self.name = name
        self.footer: Footer | None = None  # once it is ended
        self._folder = folder
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, prefix="tidegate-archive-")  # noqa: SIM115  # closed by `close`
        self._writer = ObjectWriter(self._file, name)

    @property
    def count(self) -> int:
        """Return how many records it has."""
        return self._writer.count

    @property
    def size_bytes(self) -> int:
        """Return how many bytes are written."""
        return self._writer.size_bytes

    def add(self, records: Sequence[RawRecord]) -> None:
        """Append *records*, which follow those before."""
        for each in records:
            record = lines.decoded(CODEC, each.value) if each.cut is None else None
            line = lines.write(
                topic=each.topic,
                partition=each.partition,
                offset=each.offset,
                timestamp=each.timestamp,
                key=each.key,
                headers=each.headers,
                record=record,
                value=each.value,
                cut=None if each.cut is None else each.cut.reason,
            )
            self._append(line, record, offset=each.offset, timestamp=each.timestamp)

    def end(self) -> IO[bytes]:
        """Return the whole object; nothing can be added any more."""
        if self.footer is None:
            self.footer = self._writer.end()
        self._file.flush()
        return self._file

    def rest(self, first: int) -> "SpoolFile":
        """Return a spool file with the records from the offset *first* on; this one has been ended."""
        rest = SpoolFile(ObjectName(branch=self.name.branch, first=first), folder=self._folder)
        self._file.seek(0)
        for text, line in read_object(iter(lambda: self._file.read(CHUNK_BYTES), b""), self.name):
            if line.offset >= first:
                record = lines.decoded(CODEC, line.value_bytes)
                rest._append(text, record, offset=line.offset, timestamp=line.timestamp)
        return rest

    def close(self) -> None:
        """Drop it."""
        self._file.close()

    def _append(self, line: bytes, record: msgspec.Struct | None, *, offset: int, timestamp: int) -> None:
        subject = None
        if isinstance(record, UserEvent) and record.user_id is not None:
            subject = subject_of(self.name.branch.topic_id, tenant=record.tenant, user_id=record.user_id)
        self._writer.add(line, offset=offset, timestamp=timestamp, subject=subject)
