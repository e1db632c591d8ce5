"""The archive's retention: a chain loses its beginning, in order, and never its end."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from processors.archive.removal import Removal
from processors.runtime.errors import Transient
from schemas.archive.lines import write
from schemas.archive.names import Branch, ObjectName
from schemas.archive.objects import ObjectWriter
from schemas.archive.storage import StorageAway
from tests.support.archive import MemoryArchive

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def put(storage: MemoryArchive, ages_days: Sequence[float], *, topic: str = "user.events", partition: int = 0) -> None:
    """Put an object for each of *ages_days*, of its newest record; each has an older one too."""
    branch = Branch(topic=topic, topic_id="abc", partition=partition)
    for number, age_days in enumerate(ages_days):
        name, out = ObjectName(branch=branch, first=10 * number), io.BytesIO()
        writer = ObjectWriter(out, name)
        for offset, days in ((10 * number, age_days), (10 * number + 9, age_days + 30)):
            timestamp = int((NOW - timedelta(days=days)).timestamp() * 1000)
            line = write(
                topic=topic, partition=partition, offset=offset, timestamp=timestamp, key=None, headers=(), record=None,
                value=None,
            )  # fmt: skip
            writer.add(line, offset=offset, timestamp=timestamp)
        writer.end()
        assert storage.create(name, out)


async def removed(storage: MemoryArchive, *, days: float = 7) -> list[int]:
    """Return the offsets of what goes, in its order."""
    said: list[ObjectName] = []
    await Removal(storage, topic="user.events", keep=timedelta(days=days), clock=lambda: NOW, removed=said.append).run()
    assert [each.first for each in said] == storage.deleted
    return storage.deleted


@pytest.mark.parametrize(
    ("ages_days", "gone"),
    [
        ([], []),
        ([10], []),
        ([10, 9, 1], [0, 10]),
        ([10, 1, 9, 0], [0]),
        ([1, 10, 0], []),
        ([40, 30, 20], [0, 10]),
    ],
    ids=["nothing", "the newest", "the beginning", "only the beginning", "a young beginning", "all but the newest"],
)
async def test_what_is_old_goes_oldest_first(ages_days: Sequence[float], gone: list[int]) -> None:
    storage = MemoryArchive()
    put(storage, ages_days)
    assert await removed(storage) == gone


async def test_each_partition_and_no_other_topic_loses_what_is_old() -> None:
    storage = MemoryArchive()
    for partition in (0, 1):
        put(storage, [10, 1], partition=partition)
    put(storage, [10, 1], topic="run.events")
    assert await removed(storage) == [0, 0]
    assert {name.branch.topic for key, name in storage.names.items() if key not in storage.objects} == {"user.events"}


async def test_an_object_whose_age_cannot_be_told_stops_what_is_behind_it() -> None:
    storage = MemoryArchive()
    put(storage, [12, 11, 10, 1])
    key = next(key for key, name in storage.names.items() if name.first == 10)
    storage.objects[key] = storage.objects[key][:-1]
    with pytest.raises(Transient, match="archive verify"):
        await removed(storage)
    assert storage.deleted == [0]


async def test_a_storage_that_is_away_is_asked_again() -> None:
    class Away(MemoryArchive):
        def delete(self, name: ObjectName) -> None:
            raise StorageAway(name.key)

    storage = Away()
    put(storage, [10, 1])
    with pytest.raises(Transient):
        await removed(storage)
