"""Records on their way back: which are sent, under which places, and what keeps any from being sent."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from deploy.archive.reading import read
from deploy.archive.replaying import ArchivedRange, ranges, send
from deploy.errors import CommandFailed
from deploy.log.reading import Edge, Start
from deploy.log.writing import Content
from processors.runtime.restoring import restore
from schemas.archive.names import Branch, ObjectName
from schemas.archive.storage import prefix_of
from schemas.events.topics import EVENTS
from schemas.kafka import headers
from schemas.kafka.topics import Topic
from tests.support.archive import MemoryArchive, put
from tests.support.builders import Raw

DAY_MS = 86_400_000


class MemoryWriter:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.written: list[Content] = []

    def write(self, topic: Topic, contents: Sequence[Content]) -> None:
        assert topic == EVENTS.redrive
        self.written += contents


def branch(partition: int) -> Branch:
    return Branch(topic="user.events", topic_id="abc", partition=partition)


@pytest.fixture
def storage() -> MemoryArchive:
    """Return an archive of two partitions; each object is of another day."""
    made = MemoryArchive()
    for partition in (0, 1):
        for day, first in enumerate((5, 10, 20)):
            offsets = [first + 1, first + 3]
            name = ObjectName(branch=branch(partition), first=first)
            put(made, name, [*offsets, 9 if first == 5 else first + 9], timestamp_ms=day * DAY_MS, key=b"k%d" % day)
    return made


def wanted(storage: MemoryArchive, *, start: Start = Edge.BEGINNING, end: Start = Edge.END) -> list[ArchivedRange]:
    return ranges(read(storage, prefix_of("user.events")), start=start, end=end)


def sent(storage: MemoryArchive, chosen: Sequence[ArchivedRange], key: bytes | None = None) -> list[tuple[int, int]]:
    """Send *chosen*; return the places that the records say they had."""
    writer, passed = MemoryWriter(), []  # type: ignore[var-annotated]
    count = send(storage, chosen, EVENTS, writer, key=key, on_passed=passed.append)  # type: ignore[arg-type]
    assert count == len(writer.written)
    assert sum(passed) == sum(each.count_max for each in chosen), "progress comes to its end"
    places = []
    for key_sent, value, sent_headers in writer.written:
        given = [(name, each.encode() if isinstance(each, str) else each) for name, each in sent_headers]
        back = restore(Raw(topic=EVENTS.redrive.name, key=key_sent, value=value, headers=given))  # type: ignore[arg-type]
        assert (back.topic, back.attempt, back.value) == ("user.events", 1, b"value %d" % back.offset)
        assert back.headers == [(headers.TENANT, b"demo")]
        places.append((back.partition, back.offset))
    return places


def test_everything_comes_back_in_order(storage: MemoryArchive) -> None:
    offsets = [6, 8, 9, 11, 13, 19, 21, 23, 29]
    assert sent(storage, wanted(storage)) == [(partition, offset) for partition in (0, 1) for offset in offsets]


def test_a_range_of_offsets_comes_back(storage: MemoryArchive) -> None:
    assert sent(storage, wanted(storage, start=8, end=13)) == [(p, offset) for p in (0, 1) for offset in (8, 9, 11)]


def test_a_time_takes_whole_objects(storage: MemoryArchive) -> None:
    chosen = wanted(storage, start=datetime.fromtimestamp(2 * DAY_MS / 1000, UTC))
    assert sent(storage, chosen) == [(p, offset) for p in (0, 1) for offset in (21, 23, 29)]


def test_one_key_alone_comes_back(storage: MemoryArchive) -> None:
    assert sent(storage, wanted(storage), key=b"k1") == [(p, offset) for p in (0, 1) for offset in (11, 13, 19)]


@pytest.mark.parametrize(("start", "end"), [(0, Edge.END), (Edge.BEGINNING, 31), (3, 8), (40, 50)])
def test_what_the_archive_does_not_have_is_refused(storage: MemoryArchive, start: Start, end: Start) -> None:
    with pytest.raises(CommandFailed, match="not in the archive"):
        wanted(storage, start=start, end=end)


def test_a_gap_is_refused_and_named(storage: MemoryArchive) -> None:
    del storage.objects[ObjectName(branch=branch(1), first=10).key]
    with pytest.raises(CommandFailed, match=r"user\.events/1 lacks 10 to 19"):
        wanted(storage)
    assert [each.branch.partition for each in wanted(storage, start=20, end=30)] == [0, 1]


def test_nothing_of_a_damaged_object_is_sent(storage: MemoryArchive) -> None:
    key = ObjectName(branch=branch(0), first=10).key
    whole = storage.objects[key]
    chosen = wanted(storage)
    storage.objects[key] = whole[:60] + bytes([whole[60] ^ 4]) + whole[61:]
    writer = MemoryWriter()
    with pytest.raises(CommandFailed, match="nothing of it was sent"):
        send(storage, chosen, EVENTS, writer, key=None, on_passed=lambda _count: None)  # type: ignore[arg-type]
    assert len(writer.written) == 3, "the object before it"
    storage.objects[key] = whole[:-1]
    with pytest.raises(CommandFailed, match="archive verify"):
        wanted(storage)


def test_an_empty_archive_has_nothing_to_send() -> None:
    assert wanted(MemoryArchive()) == []
