"""
Archived records on their way back to a group: through its redrive topic, under the places that they had.

The group's live worker handles them there as it does dead letters that were sent back: each at its own place, so that
one that was handled before is a redelivery. Nothing is sent before it is known that no offset of the range is missing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from deploy.archive.reading import BranchObjects, demand_readable, failures
from deploy.errors import CommandFailed
from deploy.log.reading import Edge, Start
from deploy.log.writing import Content, Writer
from schemas.archive.chain import Link
from schemas.archive.lines import Line
from schemas.archive.names import Branch, ObjectName
from schemas.archive.objects import ObjectDamaged, read_object
from schemas.archive.storage import ArchiveStorage
from schemas.kafka import headers
from schemas.kafka.topics import Group

CHUNK_RECORDS = 2000
CHUNK_BYTES = 8 * 1024 * 1024
ATTEMPT = "1"  # as of a letter that was sent back: a place that holds something else is its fault, not the log's
ALL_PARTS = "value key headers"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedRange:
    """The part of one partition that is brought back."""

    branch: Branch
    start: int
    end: int
    links: Sequence[Link]  # the objects that cover it, without a gap

    @property
    def count_max(self) -> int:
        """Return how many offsets; those that hold no record are counted too."""
        return self.end - self.start


def ranges(found: Mapping[Branch, BranchObjects], *, start: Start, end: Start) -> list[ArchivedRange]:
    """
    Return the range from *start* to *end* in each of the partitions *found*, which are of one topic.

    Raises:
        CommandFailed: part of it is in no object; says which.
    """
    made: list[ArchivedRange] = []
    refusals: list[str] = []
    for branch, objects in found.items():
        demand_readable(objects)
        first, last = objects.chain.first, objects.chain.next
        assert first is not None, "it has an object that is readable"
        assert last is not None, "it has an object that is readable"
        begin, until = _offset(objects, start), _offset(objects, end)
        if begin >= until:
            continue
        if lacking := objects.chain.lacking(begin, until):
            gaps = ", ".join(f"{gap.first} to {gap.next - 1}" for gap in lacking)
            refusals.append(f"{branch} lacks {gaps} (it has {first} to {last - 1})")
            continue
        links = objects.chain.covering(begin, until)
        made.append(ArchivedRange(branch=branch, start=begin, end=until, links=links))
    if refusals:
        raise CommandFailed(
            f"part of the range is not in the archive: {'; '.join(refusals)}; --from-start and no --to take what is "
            "there, and without --from-archive the log is asked"
        )
    return made


def _offset(objects: BranchObjects, at: Start) -> int:
    """Return the offset that *at* means; of a time, that of the first object with a record written then or later."""
    chain = objects.chain
    match at:
        case Edge.BEGINNING:
            return chain.first or 0
        case Edge.END:
            return chain.next or 0
        case int():
            return at
        case datetime():
            moment_ms = at.timestamp() * 1000
            return next(
                (link.footer.first for link in chain.links if link.footer.last_ms >= moment_ms), chain.next or 0
            )


def send(
    storage: ArchiveStorage,
    wanted: Sequence[ArchivedRange],
    group: Group,
    writer: Writer,
    *,
    key: bytes | None,
    on_passed: Callable[[int], None],
) -> int:
    """
    Write the records of *wanted*, or those with this *key*, to the redrive topic of *group*; return how many.

    Each object is proven before any of its records is written. *on_passed* is told how many offsets were passed.

    Raises:
        NotReachable: object storage or the broker is away; what was written before stays so, and again does no harm.
        CommandFailed: an object is damaged or gone.
    """
    sent = 0
    for each in wanted:
        at = each.start
        for link in each.links:
            _prove(storage, link.name)
            for chunk in _chunks(_lines(storage, link.name, each, key)):
                writer.write(group.redrive, [_letter(line) for line in chunk])
                sent += len(chunk)
                on_passed(chunk[-1].offset + 1 - at)
                at = chunk[-1].offset + 1
            until = min(each.end, link.footer.next)
            on_passed(max(0, until - at))
            at = max(at, until)
    return sent


def _prove(storage: ArchiveStorage, name: ObjectName) -> None:
    try:
        with failures():
            for _ in read_object(storage.chunks(name), name):
                pass
    except ObjectDamaged as error:
        raise CommandFailed(f"object {name.key} is damaged: {error}; nothing of it was sent") from error


def _lines(storage: ArchiveStorage, name: ObjectName, wanted: ArchivedRange, key: bytes | None) -> Iterator[Line]:
    with failures():
        for _, line in read_object(storage.chunks(name), name):
            if wanted.start <= line.offset < wanted.end and key in (None, line.key_bytes):
                yield line


def _chunks(lines: Iterator[Line]) -> Iterator[list[Line]]:
    chunk: list[Line] = []
    size_bytes = 0
    for line in lines:
        chunk.append(line)
        size_bytes += len(line.value or "")
        if len(chunk) >= CHUNK_RECORDS or size_bytes >= CHUNK_BYTES:
            yield chunk
            chunk, size_bytes = [], 0
    if chunk:
        yield chunk


def _letter(line: Line) -> Content:
    """Return the record as a dead letter that an operator sends back has it."""
    own: headers.Headers = [
        *((name, value or b"") for name, value in line.header_bytes if name not in headers.OF_DEAD_LETTERS),
        (headers.ORIGINAL_TOPIC, line.topic),
        (headers.ORIGINAL_PARTITION, str(line.partition)),
        (headers.ORIGINAL_OFFSET, str(line.offset)),
        (headers.ATTEMPT, ATTEMPT),
    ]
    if line.cut is not None:
        own.append((headers.CUT_PARTS, ALL_PARTS))
    return line.key_bytes, line.value_bytes, own
