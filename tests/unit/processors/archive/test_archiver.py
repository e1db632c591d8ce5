"""The archive of a topic: each offset comes into exactly one object, whoever put what, and nothing is replaced."""

import asyncio
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.archive.archiver import Archiver
from processors.runtime.batch import Batch, Cut
from processors.runtime.errors import Transient, Unsettled
from processors.runtime.health import Health
from schemas.archive.footer import subject_of
from schemas.archive.names import Branch, ObjectName
from schemas.archive.telemetry import ARCHIVE_OBJECTS, OF_ARCHIVE
from schemas.archive.topics import ARCHIVE
from schemas.errors import Reason
from schemas.kafka.places import Partition
from schemas.kafka.positions import Position
from schemas.process import telemetry
from tests.support.archive import MemoryArchive, archived
from tests.support.builders import Raw, raw_user_event, user_event

GROUP = ARCHIVE.group("user.events")
PARTITION = Partition("user.events", 3)
BRANCH = Branch(topic="user.events", topic_id="abc", partition=3)


class Committed:
    """The committed offset of the one partition; `away` lets the next question fail."""

    def __init__(self, offset: int | None = 0) -> None:
        self.offset = offset
        self.away = 0
        self.ids: Mapping[str, str] = {"user.events": "abc"}

    async def topic_ids(self, topics: Collection[str]) -> Mapping[str, str]:
        if self.away:
            self.away -= 1
            raise Transient("Kafka does not answer")
        return {name: self.ids[name] for name in topics if name in self.ids}

    async def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, Position]:
        return {each: Position(offset=self.offset, metadata="") for each in partitions}


async def no_pause(_seconds: float) -> None:
    await asyncio.sleep(0)


def archiver(storage: MemoryArchive, committed: Committed, *, object_bytes: int = 1 << 30) -> Archiver:
    return Archiver(
        group=GROUP,
        storage=storage,
        positions=committed,
        health=Health(),
        instruments=telemetry.Telemetry(OF_ARCHIVE),
        object_bytes=object_bytes,
        seconds_max=3600.0,
        clock_s=lambda: 0.0,
        sleep=no_pause,
    )


def batch(*offsets: int) -> Batch:
    return Batch(PARTITION, [Raw(topic="user.events", partition=3, offset=each, value=b"\xff%d" % each) for each in offsets])  # type: ignore[misc]  # fmt: skip  # noqa: E501


def offsets(storage: MemoryArchive) -> dict[int, list[int]]:
    return {first: [line.offset for line in found] for first, found in archived(storage, BRANCH).items()}


@pytest.fixture
def storage() -> MemoryArchive:
    return MemoryArchive()


async def test_objects_follow_each_other_from_the_committed_offset(storage: MemoryArchive) -> None:
    worker = archiver(storage, Committed(7))
    await worker.add(batch(9, 10))
    await worker.add(batch(12))
    assert storage.objects == {}
    assert await worker.put(PARTITION) == 13
    await worker.add(batch(15))
    assert await worker.put(PARTITION) == 16
    assert offsets(storage) == {7: [9, 10, 12], 13: [15]}, "offsets that hold nothing belong to the object behind them"


async def test_a_put_of_nothing_makes_no_object(storage: MemoryArchive) -> None:
    worker = archiver(storage, Committed())
    assert await worker.put(PARTITION) == 0
    await worker.add(batch(0))
    assert await worker.put(PARTITION) == 1
    assert await worker.put(PARTITION) == 1
    assert (storage.puts, offsets(storage)) == (1, {0: [0]})


@pytest.mark.parametrize("theirs", [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3, 4]])
async def test_an_object_that_another_worker_has_put_is_adopted(storage: MemoryArchive, theirs: Sequence[int]) -> None:
    """confluentinc/kafka-connect-storage-cloud#800: a complete object was replaced by a shorter one."""
    before, after = archiver(storage, Committed()), archiver(storage, Committed())
    await before.add(batch(*theirs))
    assert await before.put(PARTITION) == len(theirs)
    first = dict(storage.objects)
    await after.add(batch(0, 1, 2))
    assert await after.put(PARTITION) == max(3, len(theirs))
    for late in range(3, 7):
        await after.add(batch(late))
    assert await after.put(PARTITION) == 7
    assert storage.objects.items() >= first.items(), "it is as it was"
    assert sorted(each for found in offsets(storage).values() for each in found) == list(range(7))
    assert after.instruments[ARCHIVE_OBJECTS].labels("user.events", "adopted")._value.get() == 1


@pytest.mark.parametrize("failure", ["away", "in_doubt", "conflict"])
async def test_a_put_that_fails_is_repeated(storage: MemoryArchive, failure: str) -> None:
    """apache/arrow-rs-object-store#852: a conflict was taken for an object, though nothing had been written."""
    storage.failures = [failure, failure]
    worker = archiver(storage, Committed())
    await worker.add(batch(0, 1))
    assert await worker.put(PARTITION) == 2
    assert offsets(storage) == {0: [0, 1]}
    assert worker.health.waiting == {}


async def test_a_damaged_object_is_not_adopted(storage: MemoryArchive) -> None:
    before = archiver(storage, Committed())
    await before.add(batch(0, 1))
    await before.put(PARTITION)
    [key] = storage.objects
    whole = storage.objects[key]
    storage.objects[key] = whole[:10] + b"?" + whole[11:]
    worker = archiver(storage, Committed())
    await worker.add(batch(0, 1))
    putting = asyncio.create_task(worker.put(PARTITION))
    for _ in range(1000):
        await asyncio.sleep(0.001)
        if worker.health.waiting:
            break
    assert "damaged" in worker.health.waiting[PARTITION]
    del storage.objects[key]
    assert await putting == 2
    assert offsets(storage) == {0: [0, 1]}


async def test_a_worker_that_was_stopped_in_its_put_shortens_nothing(storage: MemoryArchive) -> None:
    stopped, successor = archiver(storage, Committed()), archiver(storage, Committed())
    await stopped.add(batch(0, 1))
    storage.held = threading.Event()
    putting = asyncio.create_task(stopped.put(PARTITION))
    assert await asyncio.to_thread(storage.putting.wait, 10)
    goes_on, storage.held = storage.held, None
    await successor.add(batch(0, 1, 2))
    assert await successor.put(PARTITION) == 3
    goes_on.set()
    assert await putting == 3
    assert offsets(storage) == {0: [0, 1, 2]}


async def test_what_is_gathered_is_dropped_with_its_partition(storage: MemoryArchive) -> None:
    committed = Committed()
    worker = archiver(storage, committed)
    await worker.add(batch(0, 1))
    worker.drop(PARTITION)
    committed.offset = 2  # another worker had the partition meanwhile
    await worker.add(batch(2))
    assert await worker.put(PARTITION) == 3
    assert offsets(storage) == {2: [2]}
    worker.drop(Partition("user.events", 5))


async def test_size_makes_an_object_full(storage: MemoryArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schemas.archive.objects.FRAME_TEXT_BYTES", 1)
    worker = archiver(storage, Committed(), object_bytes=300)
    assert not worker.is_full(PARTITION)
    await worker.add(batch(0))
    assert not worker.is_full(PARTITION)
    await worker.add(batch(1, 2, 3))
    assert worker.is_full(PARTITION)
    await worker.put(PARTITION)
    assert not worker.is_full(PARTITION)


async def test_the_position_is_asked_for_until_kafka_answers(storage: MemoryArchive) -> None:
    committed = Committed(5)
    committed.away = 3
    worker = archiver(storage, committed)
    await worker.add(batch(5))
    assert await worker.put(PARTITION) == 6
    assert offsets(storage) == {5: [5]}


@pytest.mark.parametrize("missing", ["offset", "topic"])
async def test_without_a_position_nothing_is_archived(storage: MemoryArchive, missing: str) -> None:
    committed = Committed(None if missing == "offset" else 0)
    committed.ids = {} if missing == "topic" else committed.ids
    with pytest.raises(Unsettled):
        await archiver(storage, committed).add(batch(0))


async def test_dead_letters_that_are_sent_back_are_passed_by(storage: MemoryArchive) -> None:
    worker = archiver(storage, Committed())
    redrive = Partition(GROUP.redrive.name, 0)
    await worker.add(Batch(redrive, [Raw(topic=redrive.topic, offset=0)]))  # type: ignore[list-item]
    assert (await worker.put(redrive), storage.objects) == (0, {})


async def test_a_spool_file_has_no_name(storage: MemoryArchive, tmp_path: Path) -> None:
    worker = archiver(storage, Committed())
    worker.folder = tmp_path
    await worker.add(batch(0))
    names = await asyncio.to_thread(lambda: list(tmp_path.iterdir()))
    worker.drop(PARTITION)
    assert names == [], "it ends with its process"


async def test_a_record_is_archived_decoded_and_as_it_was(storage: MemoryArchive) -> None:
    worker = archiver(storage, Committed())
    event = user_event(user_id="auth0|5f7c", payload={"n": 9007199254740993})
    good = raw_user_event(event, offset=0, partition=3)
    cut = Raw(topic="user.events", partition=3, offset=2, value=None, cut=Cut(Reason.TOO_LARGE, "inflates too much"))
    poison = Raw(topic="user.events", partition=3, offset=1, value=b"\x00\x80 poison")
    await worker.add(Batch(PARTITION, [good, poison, cut]))  # type: ignore[list-item]
    await worker.put(PARTITION)
    first, second, third = archived(storage, BRANCH)[0]
    assert (first.value_bytes, first.key_bytes, first.header_bytes) == (good.value, good.key, list(good.headers))
    assert b'"payload":"{\\"n\\": 9007199254740993}"' in bytes(first.record), "a payload is a text"
    assert (bytes(second.record), second.value_bytes) == (b"null", poison.value)
    assert (bytes(third.record), third.value_bytes, third.cut) == (b"null", None, "too_large")
    [stored] = storage.list("")
    footer = storage.footer(ObjectName(branch=BRANCH, first=0), stored.size_bytes)
    assert footer.has(subject_of("abc", tenant=event.tenant, user_id="auth0|5f7c"))


@settings(max_examples=150, deadline=None)
@given(data=st.data(), end=st.integers(5, 25))
def test_whatever_workers_do_each_offset_is_in_one_object(data: st.DataObject, end: int) -> None:
    """Two workers cut where they like, lose answers, are killed before their commit, and come back with old files."""
    asyncio.run(_any_course(data, end))


async def _any_course(data: st.DataObject, end: int) -> None:
    storage, committed = MemoryArchive(), Committed()
    workers = [archiver(storage, committed), archiver(storage, committed)]
    fetched = [0, 0]  # where each of them reads on
    try:
        for _ in range(data.draw(st.integers(1, 25), label="steps")):
            one = data.draw(st.integers(0, 1), label="worker")
            step = data.draw(st.sampled_from(["add", "add", "put", "put and die", "die"]), label="step")
            if step == "add" and fetched[one] < end:
                until = min(end, fetched[one] + data.draw(st.integers(1, 4), label="count"))
                await workers[one].add(batch(*range(fetched[one], until)))
                fetched[one] = until
            elif step.startswith("put"):
                storage.failures = data.draw(st.lists(st.sampled_from(["away", "in_doubt", "conflict"]), max_size=2))
                reached = await workers[one].put(PARTITION)
                if step == "put":  # a worker that was given up cannot commit: the broker refuses it
                    committed.offset = max(committed.offset or 0, reached)
            if step.endswith("die"):
                workers[one].drop(PARTITION)
                fetched[one] = committed.offset or 0
        workers[0].drop(PARTITION)
        if (begin := committed.offset or 0) < end:
            await workers[0].add(batch(*range(begin, end)))
        await workers[0].put(PARTITION)
    finally:
        for worker in workers:
            worker.drop(PARTITION)
    found = offsets(storage)
    assert [each for first in sorted(found) for each in found[first]] == list(range(end))
