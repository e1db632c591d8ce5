"""One suite over the storage of archived objects: a folder, a bucket that speaks S3, and the fake."""

import io
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.archive.footer import TAIL_BYTES, subject_of
from schemas.archive.lines import write
from schemas.archive.names import Branch, ObjectName
from schemas.archive.objects import ObjectDamaged, ObjectWriter, read_object
from schemas.archive.storage import (
    ArchiveStorage,
    ObjectMissing,
    ObstoreArchive,
    StorageAway,
    branches,
    prefix_of,
)
from tests.support.archive import MemoryArchive
from tests.support.s3 import BUCKET, aws, s3_server

BRANCH = Branch(topic="user.events", topic_id="-abc_1", partition=3)
FIRST = ObjectName(branch=BRANCH, first=0)


@pytest.fixture(scope="module")
def s3_port() -> Iterator[int]:
    """Yield where an S3 server listens."""
    with s3_server() as port:
        yield port


@pytest.fixture(params=["fake", "folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArchiveStorage:
    """Return each of the three."""
    if request.param == "fake":
        return MemoryArchive()
    location = str(tmp_path / "objects")
    if request.param == "s3":
        location = f"s3://{BUCKET}/{secrets.token_hex(4)}"
        for name, value in aws(request.getfixturevalue("s3_port")).items():
            monkeypatch.setenv(name, value)
    return ObstoreArchive(location)


def content(name: ObjectName, count: int, *, users: int = 0) -> io.BytesIO:
    """Return an object of so many records, and of so many users."""
    out = io.BytesIO()
    writer = ObjectWriter(out, name)
    for offset in range(name.first, name.first + count):
        line = write(
            topic="user.events", partition=3, offset=offset, timestamp=offset, key=None, headers=(), record=None,
            value=secrets.token_bytes(50),
        )  # fmt: skip
        writer.add(line, offset=offset, timestamp=offset)
    for number in range(users):
        subject = subject_of("abc", tenant="demo", user_id=str(number))
        writer.add(line, offset=offset + 1 + number, timestamp=0, subject=subject)
    writer.end()
    return out


def test_an_object_is_created_once_and_stays_as_it_is(storage: ArchiveStorage) -> None:
    first, second = content(FIRST, 3), content(FIRST, 2)
    assert storage.create(FIRST, first)
    assert not storage.create(FIRST, second)
    size_bytes = storage.size_of(FIRST)
    assert size_bytes == len(first.getvalue())
    assert storage.footer(FIRST, size_bytes).next == 3
    assert b"".join(storage.chunks(FIRST)) == first.getvalue()
    assert [line.offset for _, line in read_object(storage.chunks(FIRST), FIRST)] == [0, 1, 2]


def test_objects_are_listed_by_their_partition_in_order(storage: ArchiveStorage) -> None:
    other = ObjectName(branch=Branch(topic="user.events", topic_id="-abc_1", partition=12), first=7)
    foreign = ObjectName(branch=Branch(topic="user.events.more", topic_id="-abc_1", partition=0), first=0)
    names = [ObjectName(branch=BRANCH, first=first) for first in (20, 0, 100_000_000_000)]
    for name in (*names, other, foreign):
        assert storage.create(name, content(name, 1))
    found = branches(storage.list(prefix_of("user.events")))
    assert {branch: [each.name.first for each in stored] for branch, stored in found.items()} == {
        BRANCH: [0, 20, 100_000_000_000],
        other.branch: [7],
    }
    assert len(list(storage.list(prefix_of()))) == 5
    assert len(list(storage.list(prefix_of("user.events", "-abc_1")))) == 4
    assert list(storage.list(prefix_of("run.events"))) == []


def test_a_long_footer_is_read(storage: ArchiveStorage) -> None:
    whole = content(FIRST, 1, users=2 * TAIL_BYTES // 8)
    storage.create(FIRST, whole)
    assert storage.footer(FIRST, len(whole.getvalue())).has(subject_of("abc", tenant="demo", user_id="5"))


def test_what_is_not_there_is_missing(storage: ArchiveStorage) -> None:
    assert storage.size_of(FIRST) is None
    with pytest.raises(ObjectMissing):
        storage.footer(FIRST, 100)
    with pytest.raises(ObjectMissing):
        list(storage.chunks(FIRST))
    storage.delete(FIRST)


def test_a_deleted_object_is_gone(storage: ArchiveStorage) -> None:
    storage.create(FIRST, content(FIRST, 1))
    storage.delete(FIRST)
    assert storage.size_of(FIRST) is None
    assert storage.create(FIRST, content(FIRST, 2))


def test_what_does_not_end_with_a_footer_is_damaged(storage: ArchiveStorage) -> None:
    whole = content(FIRST, 3).getvalue()
    storage.create(FIRST, io.BytesIO(whole[:-1]))
    with pytest.raises(ObjectDamaged):
        storage.footer(FIRST, len(whole) - 1)


def test_a_bucket_that_is_missing_is_away(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws(s3_port).items():
        monkeypatch.setenv(name, value)
    storage = ObstoreArchive("s3://no-such-bucket/prefix")
    with pytest.raises(StorageAway):
        storage.create(FIRST, content(FIRST, 1))
    with pytest.raises(StorageAway):
        list(storage.list(prefix_of()))


def test_a_folder_that_is_away_has_not_lost_its_objects(tmp_path: Path) -> None:
    storage = ObstoreArchive(str(tmp_path / "objects"))
    storage.create(FIRST, content(FIRST, 1))
    (tmp_path / "objects").rename(tmp_path / "away")
    with pytest.raises(StorageAway):
        storage.size_of(FIRST)
    with pytest.raises(StorageAway):
        list(storage.list(prefix_of()))
    with pytest.raises(StorageAway):
        storage.footer(FIRST, 100)
