"""Small files that others watch: replaced in one step where possible, readable for the same accounts as before."""

import os
from pathlib import Path

import pytest
import structlog

from schemas.access.credentials import CredentialsFile, CredentialsInvalid
from schemas.process.file_writing import read_failure, replace_text, replaced_outside
from schemas.process.watched import WatchedFile
from tests.faults.disk import needs_root

OTHER_USER = 10001


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text("before")
    return path


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_a_file_keeps_its_mode(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert replace_text(file, "after")
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("after", mode)
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    assert replace_text(tmp_path / "new", "text")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


@needs_root
def test_a_file_keeps_its_owner_and_group(file: Path) -> None:
    """Root edits what a container reads as another user."""
    os.chown(file, OTHER_USER, OTHER_USER + 1)
    assert replace_text(file, "after")
    assert (file.stat().st_uid, file.stat().st_gid) == (OTHER_USER, OTHER_USER + 1)


def test_a_link_stays_a_link(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file.name)
    replace_text(link, "after")
    assert (link.is_symlink(), file.read_text()) == (True, "after")


@pytest.mark.parametrize("text", ["longer than it was", "short", ""])
def test_what_cannot_be_replaced_is_written_over(tmp_path: Path, text: str) -> None:
    """A folder that takes no second file; here because the second one's name would be too long."""
    path = tmp_path / ("n" * 250)
    path.write_text("as it was")
    before = path.stat()
    assert not replace_text(path, text)
    assert (path.read_text(), path.stat().st_ino) == (text, before.st_ino)


def test_what_can_be_neither_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_text(tmp_path / "no folder" / "c.toml", "text")


def test_a_file_that_was_replaced_behind_its_mount_is_reported(file: Path) -> None:
    """A descriptor keeps the old file, as a mount of that file alone does."""
    with file.open() as held:
        mounted = Path(f"/proc/self/fd/{held.fileno()}")
        watched = WatchedFile(mounted, str)
        assert watched.current(now_s=10) == "before"
        assert (watched.problem, replaced_outside(mounted)) == (None, False)
        replace_text(file, "after")
        with structlog.testing.capture_logs() as logged:
            assert [watched.current(now_s=now_s) for now_s in (20, 30)] == ["before", "before"]
    assert watched.problem is not None
    assert "mount its folder" in watched.problem
    assert [line["log_level"] for line in logged] == ["error"]


def test_a_file_that_may_not_be_read_says_who_may_not_and_what_to_do(file: Path) -> None:
    said = read_failure(file, PermissionError(13, "Permission denied"))
    assert f"runs as user {os.geteuid()}" in said
    assert f"belongs to user {file.stat().st_uid} with mode 0644. Run `chown {os.geteuid()} c.toml`" in said


def test_a_missing_file_and_a_text_that_cannot_be_used_say_so(tmp_path: Path) -> None:
    with pytest.raises(CredentialsInvalid, match="none: No such file or directory"):
        CredentialsFile(tmp_path / "none")
    assert read_failure(tmp_path, ValueError("not TOML")) == f"{tmp_path}: not TOML"
