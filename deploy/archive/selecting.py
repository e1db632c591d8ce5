"""A selection of archived records: by their offsets, and by when they were written."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from deploy.archive.reading import failures
from deploy.errors import CommandFailed
from schemas.archive.chain import Link
from schemas.archive.lines import Line
from schemas.archive.objects import ObjectDamaged, read_object
from schemas.archive.storage import ArchiveStorage


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSelection:
    """The records that are meant; None is no bound."""

    first: int = 0
    end: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def may_be_in(self, link: Link) -> bool:
        """Return True if an object may have any of the records."""
        footer = link.footer
        return (
            footer.next > self.first
            and (self.end is None or footer.first < self.end)
            and (self.since is None or footer.last_ms >= _ms(self.since))
            and (self.until is None or footer.first_ms < _ms(self.until))
        )

    def has(self, line: Line) -> bool:
        """Return True if a record is meant."""
        return (
            line.offset >= self.first
            and (self.end is None or line.offset < self.end)
            and (self.since is None or line.timestamp >= _ms(self.since))
            and (self.until is None or line.timestamp < _ms(self.until))
        )


def lines(storage: ArchiveStorage, link: Link, selection: ArchiveSelection) -> Iterator[bytes]:
    """
    Yield those lines of an object that *selection* means.

    Raises:
        CommandFailed: the object is damaged or gone; what was yielded before may be part of the damage.
        NotReachable: object storage is away.
    """
    try:
        with failures():
            for text, line in read_object(storage.chunks(link.name), link.name):
                if selection.has(line):
                    yield text
    except ObjectDamaged as error:
        raise CommandFailed(f"object {link.name.key} is damaged: {error}") from error


def _ms(moment: datetime) -> float:
    return moment.timestamp() * 1000
