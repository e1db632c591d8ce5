"""The file of an export is written whole or not at all, and what is in the way is said in one sentence."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.errors import CommandFailed
from deploy.export.files import written
from tests.faults.disk import needs_root, small_disk

FULL = Path("/dev/full")  # every write to it fails, as on a disk without space


def write(path: Path, content: bytes = b"x" * 100_000) -> None:
    with written(path) as file:
        file.write(content)


def test_a_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    write(tmp_path / "run.jsonl", b"text")
    assert (tmp_path / "run.jsonl").read_bytes() == b"text"
    assert stat.S_IMODE((tmp_path / "run.jsonl").stat().st_mode) == 0o600


def test_a_folder_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"is a folder: name a file in it, such as .*run\.jsonl"), written(tmp_path):
        pytest.fail("nothing may be read for it")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"run.jsonl cannot be written: No such file or directory"):
        write(tmp_path / "none" / "run.jsonl")


@needs_root
def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path: Path) -> None:
    with small_disk(tmp_path, size_mib=1):
        (tmp_path / "run.jsonl").write_text("before")
        with pytest.raises(CommandFailed, match=r"run.jsonl cannot be written: No space left on device"):
            write(tmp_path / "run.jsonl", bytes(2 * 1024 * 1024))
        assert [path.name for path in tmp_path.iterdir()] == ["run.jsonl"]
        assert (tmp_path / "run.jsonl").read_text() == "before"


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    """As is a device: renamed over, /dev/null would be a file from then on."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write(pipe, b"text")
    assert (os.read(reading, 100), pipe.is_fifo()) == (b"text", True)
    os.close(reading)


@pytest.mark.parametrize("arguments", [["schemas", "list"], ["schemas", "list", "--json"]])
def test_a_command_whose_output_cannot_be_written_says_so_in_a_line(arguments: list[str]) -> None:
    with FULL.open("w") as full:
        command = [sys.executable, "-m", "deploy.cli.app", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "No space left on device\n")


def test_a_command_whose_reader_has_gone_says_nothing() -> None:
    command = [sys.executable, "-m", "deploy.cli.app", "schemas", "show", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 1
    process.stderr.close()
