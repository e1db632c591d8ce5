"""Files of batches: each record once and in order, whatever crashed in between."""

import asyncio
import fcntl
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.sinks.contract import SinkBatch, Transient
from processors.sinks.documents import sink_record
from processors.sinks.kinds.jsonl import JsonlWriter
from processors.sinks.kinds.jsonl_files import CHUNK_BYTES, LOCK, PartitionFiles, zstd
from schemas.sinks.sinks_file import JsonlSink
from tests.support.builders import USER_TOPIC
from tests.support.sinks import TOPIC_ID, arrival, batch, batch_of


class Clock:
    now_s = 1_764_560_000.0

    def __call__(self) -> float:
        return self.now_s


def partition_folder(folder: Path, partition: int = 0) -> Path:
    return folder / f"{USER_TOPIC}@{TOPIC_ID}" / str(partition)


def names(folder: Path) -> list[str]:
    """Return the names of a partition's files in order, the long numbers cut."""
    found = sorted(path.name for path in folder.iterdir() if path.name != LOCK)
    return [name.replace("0" * 17, "") for name in found]


def lines(folder: Path) -> list[bytes]:
    """Return the lines of a partition, closed files first."""
    found = sorted(folder.glob("*.jsonl*")) + sorted(folder.glob("*.open"))
    contents = [zstd.decompress(path.read_bytes()) if path.suffix == ".zst" else path.read_bytes() for path in found]
    return b"".join(contents).splitlines()


def written(folder: Path) -> list[int]:
    """Return the offsets of a partition's records in the order of its files."""
    return [int(json.loads(line)["place"].rpartition("/")[2]) for line in lines(folder)]


async def write(folder: Path, *batches: SinkBatch, **settings: Any) -> None:
    """Write *batches* with a process of its own."""
    writer = JsonlWriter(JsonlSink(folder=str(folder), **settings), clock_s=Clock())
    await writer.open({})
    try:
        for each in batches:
            await writer.write(each)
    finally:
        await writer.close()


async def test_a_line_is_the_event_and_files_are_named_by_their_places(tmp_path: Path) -> None:
    await write(tmp_path, batch(0, 1), batch(2, 3), batch(4, 5), file_bytes_max=2 * len(batch(0, 1).records[0].json))
    assert names(partition_folder(tmp_path)) == ["000-001.jsonl", "002-003.jsonl", "004-005.jsonl"]
    assert lines(partition_folder(tmp_path)) == [record.json for record in batch(*range(6)).records]


async def test_what_is_there_is_not_written_twice(tmp_path: Path) -> None:
    await write(tmp_path, batch(0, 1, 2))
    await write(tmp_path, batch(0, 1, 2), batch(1, 2, 3, 4), batch(3, 4))
    assert written(partition_folder(tmp_path)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("zstd", [False, True])
async def test_what_a_closed_file_has_is_not_written_twice(tmp_path: Path, zstd: bool) -> None:
    await write(tmp_path, batch(7, 8), file_bytes_max=1, zstd=zstd)
    await write(tmp_path, batch(7, 8, 9), zstd=zstd)
    assert written(partition_folder(tmp_path)) == [7, 8, 9]
    assert names(partition_folder(tmp_path))[0] == ("007-008.jsonl.zst" if zstd else "007-008.jsonl")


@given(kept=st.integers(0, 2000))
def test_wherever_a_crash_tears_a_file_each_record_is_there_once(kept: int) -> None:
    """The batch had not been answered, so it comes again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(write(folder, batch(0, 1, 2, 3)))
        [open_file] = partition_folder(folder).glob("*.open")
        os.truncate(open_file, min(kept, open_file.stat().st_size))
        asyncio.run(write(folder, batch(0, 1, 2, 3), batch(4)))
        assert lines(partition_folder(folder)) == [record.json for record in batch(*range(5)).records]


async def test_garbage_at_the_end_is_cut_off(tmp_path: Path) -> None:
    """A machine that lost its power may leave zeros where a line was to be."""
    await write(tmp_path, batch(0, 1))
    [open_file] = partition_folder(tmp_path).glob("*.open")
    with open_file.open("ab") as file:
        file.write(bytes(3000) + b"\n" + b'{"place": 5}\n' + b'{"no')
    await write(tmp_path, batch(2))
    assert written(partition_folder(tmp_path)) == [0, 1, 2]


async def test_a_last_line_longer_than_what_is_read_at_once_is_found(tmp_path: Path) -> None:
    long = [sink_record(arrival(offset, payload="x" * (CHUNK_BYTES + 10))) for offset in (0, 1)]
    await write(tmp_path, batch_of(long))
    await write(tmp_path, batch_of(long), batch(2))
    assert written(partition_folder(tmp_path)) == [0, 1, 2]


async def test_a_crash_between_a_closed_file_and_the_end_of_the_open_one_writes_nothing_twice(tmp_path: Path) -> None:
    await write(tmp_path, batch(0, 1))
    [open_file] = partition_folder(tmp_path).glob("*.open")
    content, open_name = open_file.read_bytes(), open_file
    await write(tmp_path, batch(2), file_bytes_max=1, zstd=True)
    open_name.write_bytes(content)
    (partition_folder(tmp_path) / "half.jsonl.zst.part").write_bytes(b"half of it")
    await write(tmp_path, batch(1, 2, 3))
    assert written(partition_folder(tmp_path)) == [0, 1, 2, 3]
    assert not list(partition_folder(tmp_path).glob("*.part"))


async def test_a_file_that_was_made_and_holds_nothing_is_begun_anew(tmp_path: Path) -> None:
    await write(tmp_path, batch(0))
    [open_file] = partition_folder(tmp_path).glob("*.open")
    os.truncate(open_file, 0)
    await write(tmp_path, batch(5, 6))
    assert written(partition_folder(tmp_path)) == [5, 6]


async def test_two_processes_that_take_turns_write_each_record_once(tmp_path: Path) -> None:
    """Also a worker that was stopped, comes back and writes what its successor has passed."""
    settings = JsonlSink(folder=str(tmp_path))
    first, second = (JsonlWriter(settings, clock_s=Clock()) for _ in range(2))
    await first.write(batch(0, 1))
    await second.write(batch(2, 3))
    await second.write(batch(4, 5))
    await first.write(batch(2, 3))
    await first.write(batch(4, 5, 6))
    await second.write(batch(6, 7))
    assert written(partition_folder(tmp_path)) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_while_another_process_writes_nothing_is_written(tmp_path: Path) -> None:
    files = PartitionFiles(tmp_path, JsonlSink(folder=str(tmp_path)), clock_s=Clock(), lock_wait_s=0.0)
    descriptor = os.open(tmp_path / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(Transient, match="another process"):
        files.append(batch(0).records)
    os.close(descriptor)
    files.append(batch(0).records)
    assert written(tmp_path) == [0]


def test_time_closes_a_file_without_another_record(tmp_path: Path) -> None:
    """Report: what came in five minutes waited until the next record, hours later."""
    clock = Clock()
    files = PartitionFiles(tmp_path, JsonlSink(folder=str(tmp_path), file_seconds_max=60.0), clock_s=clock)
    files.append(batch(0, 1).records)
    files.tidy()
    assert len(list(tmp_path.glob("*.open"))) == 1
    clock.now_s += 60.0
    files.tidy()
    assert names(tmp_path) == ["000-001.jsonl"]
    files.append(batch(1, 2).records)
    assert written(tmp_path) == [0, 1, 2]


def test_a_file_that_another_process_left_is_closed_in_its_time(tmp_path: Path) -> None:
    clock, settings = Clock(), JsonlSink(folder=str(tmp_path), file_seconds_max=60.0)
    PartitionFiles(tmp_path, settings, clock_s=clock).append(batch(0, 1).records)
    clock.now_s += 60.0
    PartitionFiles(tmp_path, settings, clock_s=clock).tidy()
    assert names(tmp_path) == ["000-001.jsonl"]


async def test_files_are_tidied_while_nothing_is_written(tmp_path: Path) -> None:
    await write(tmp_path, batch(0))
    late = Clock()
    late.now_s += 7200.0
    writer = JsonlWriter(JsonlSink(folder=str(tmp_path)), clock_s=late, tidy_every_s=0.001)
    await writer.open({})
    async with asyncio.timeout(10):
        while list(partition_folder(tmp_path).glob("*.open")):  # noqa: ASYNC110  what is waited for is a file
            await asyncio.sleep(0)
    await writer.close()
    assert names(partition_folder(tmp_path)) == ["000-000.jsonl"]


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({}, ["000", "001", "002", "003"]),
        ({"kept_seconds_max": 1e6}, ["000", "001", "002", "003"]),
        ({"kept_seconds_max": 150.0}, ["002", "003"]),
        ({"kept_seconds_max": 1.0}, ["003"]),
        ({"kept_bytes_max": 1}, ["003"]),
    ],
)
def test_old_files_are_removed_but_for_the_newest(tmp_path: Path, settings: dict[str, float], left: list[str]) -> None:
    clock = Clock()
    files = PartitionFiles(tmp_path, JsonlSink(folder=str(tmp_path), file_bytes_max=1, **settings), clock_s=clock)  # type: ignore[arg-type]
    for offset in range(4):
        files.append(batch(offset).records)
        newest = max(tmp_path.glob("*.jsonl"))
        os.utime(newest, (clock.now_s, clock.now_s))
        clock.now_s += 100.0
    clock.now_s -= 100.0
    files.tidy()
    assert [name[:3] for name in names(tmp_path)] == left
    files.append(batch(3).records)
    assert [name[:3] for name in names(tmp_path)] == left


async def test_records_that_were_sent_back_have_a_file_of_their_own(tmp_path: Path) -> None:
    sent_back = batch(1, attempt=2)
    await write(tmp_path, batch(0, 2), sent_back, sent_back, batch(3))
    assert names(partition_folder(tmp_path))[-1] == "001-001.redriven-2.jsonl"
    [file] = partition_folder(tmp_path).glob("*.redriven-2.jsonl")
    assert file.read_bytes() == sent_back.records[0].json + b"\n"
    [open_file] = partition_folder(tmp_path).glob("*.open")
    assert len(open_file.read_bytes().splitlines()) == 3


async def test_a_replay_writes_beside_the_files(tmp_path: Path) -> None:
    await write(tmp_path, batch(0, 1), batch(0, 1, replay_id="r1"))
    assert written(partition_folder(tmp_path)) == [0, 1]
    assert written(partition_folder(tmp_path / "replays" / "r1")) == [0, 1]


async def test_a_topic_that_was_made_anew_has_files_of_its_own(tmp_path: Path) -> None:
    """Report: offsets of a topic that is made anew begin at 0, and were taken for known."""
    other = SinkBatch(**{name: getattr(batch(0), name) for name in SinkBatch.__slots__} | {"topic_id": "b3RoZXI"})
    await write(tmp_path, batch(0, 1), other)
    assert all((tmp_path / f"{USER_TOPIC}@{topic_id}").is_dir() for topic_id in (TOPIC_ID, "b3RoZXI"))


async def test_a_disk_that_takes_nothing_is_waited_for(tmp_path: Path) -> None:
    writer = JsonlWriter(JsonlSink(folder=str(tmp_path)), clock_s=Clock())
    (tmp_path / f"{USER_TOPIC}@{TOPIC_ID}").write_text("in the way")
    with pytest.raises(Transient, match="Error"):
        await writer.write(batch(0))


async def test_a_folder_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        await JsonlWriter(JsonlSink(folder=str(tmp_path / "file" / "x")), clock_s=Clock()).open({})
