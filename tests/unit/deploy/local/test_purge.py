"""Purging removes what a stack made and nothing else, and says what it removed."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.errors import CommandFailed
from deploy.local import development, lock, made, purge
from deploy.local.purge import Purged

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def start(folder: Path) -> None:
    """Make what a stack makes in its folder."""
    folder.mkdir(exist_ok=True)
    made.claim(folder)
    for name in ("kafka/data", "postgres", "logs", "objects/demo"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("kafka/data/segment", "logs/gateway.log", "logs/gateway.log.1", "objects/demo/x", "up.log"):
        (folder / name).touch()
    development.prepare(folder, logins=["tidegate_write"], now=NOW)
    with lock.hold(folder):
        pass


def purged(folder: Path) -> tuple[set[str], dict[str, str]]:
    """Return the names that were removed, and those that were left with the reason."""
    steps = list(purge.purge(folder))
    removed = {Path(step.path).name for step in steps if step.left_because is None}
    return removed, {Path(step.path).name: step.left_because for step in steps if step.left_because is not None}


def test_a_folder_with_only_a_stack_in_it_is_removed_and_each_step_reported(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    start(folder)
    removed, left = purged(folder)
    config = {"credentials.toml", "secrets.json", "limits.toml", "retention.toml"}
    assert removed == {"kafka", "postgres", "logs", "objects", "up.log", "stack"} | config
    assert left == {}
    assert not folder.exists()


def test_what_was_there_before_the_stack_stays_whatever_it_is_called(tmp_path: Path) -> None:
    """A stack in a folder of a project that has folders of the same names."""
    for name in ("kafka", "objects"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").touch()
    (tmp_path / "retention.toml").write_text("[retention]\n")
    (tmp_path / "thesis.txt").touch()
    start(tmp_path)
    (tmp_path / "later.txt").touch()
    removed, left = purged(tmp_path)
    assert set(left) == {"kafka", "objects", "retention.toml", "thesis.txt", "later.txt"}
    assert set(left.values()) == {"the stack did not make it"}
    assert {"postgres", "logs", "credentials.toml", "secrets.json"} <= removed
    assert {path.name for path in tmp_path.iterdir()} == set(left)
    assert (tmp_path / "kafka/mine").exists()


def test_a_folder_in_which_no_stack_was_started_is_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "credentials.toml").touch()
    with pytest.raises(CommandFailed, match=r"no stack was ever started in .*: nothing was removed"):
        purged(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"postgres", "credentials.toml"}


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_where_nothing_is_nothing_is_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    assert purged(tmp_path / name) == (set(), {})


def test_links_are_neither_followed_nor_removed(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "stack", tmp_path / "disk"
    start(folder)
    (elsewhere / "kept").mkdir(parents=True)
    for name in ("replays", "logs/other.log"):
        (folder / name).symlink_to(elsewhere)
    (folder / "objects/demo/link").symlink_to(elsewhere)
    _, left = purged(folder)
    assert set(left) == {"replays", "other.log"}
    assert (elsewhere / "kept").exists()


def test_a_link_to_the_folder_is_refused(tmp_path: Path) -> None:
    start(tmp_path / "stack")
    (tmp_path / "link").symlink_to(tmp_path / "stack")
    with pytest.raises(CommandFailed, match="name the folder itself"):
        purged(tmp_path / "link")
    assert (tmp_path / "stack/kafka/data/segment").exists()


def test_objects_that_a_setting_put_elsewhere_stay(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "stack", tmp_path / "large"
    elsewhere.mkdir()
    start(folder)
    (folder / "settings.json").write_text(json.dumps({"gateway": {"TIDEGATE_OBJECTS": str(elsewhere)}}))
    steps = list(purge.purge(folder))
    assert Purged(path=str(elsewhere), left_because="TIDEGATE_OBJECTS named it") in steps
    assert elsewhere.exists()


def test_a_stack_that_runs_is_not_purged(tmp_path: Path) -> None:
    start(tmp_path)
    with lock.hold(tmp_path), pytest.raises(CommandFailed, match="a stack runs in"):
        purged(tmp_path)
    assert (tmp_path / "kafka/data/segment").exists()


def test_a_stack_of_a_version_that_kept_no_record_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    start(folder)
    (folder / made.NAME).unlink()
    assert purged(folder)[1] == {}
    assert not folder.exists()


def test_a_record_that_names_other_paths_is_not_believed(tmp_path: Path) -> None:
    """It is a file in a folder that others may write to."""
    folder = tmp_path / "stack"
    start(folder)
    (tmp_path / "victim").touch()
    (folder / "thesis.txt").touch()
    names = {"made_by_stack": ["../victim", "thesis.txt", "kafka"]}
    (folder / made.NAME).write_text(json.dumps(names))
    (folder / lock.CHILDREN).unlink()
    removed, left = purged(folder)
    assert removed == {"kafka"}
    assert "thesis.txt" in left
    assert (tmp_path / "victim").exists()


def test_a_record_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    start(tmp_path)
    (tmp_path / made.NAME).write_text("{")
    with pytest.raises(CommandFailed, match="cannot be read"):
        purged(tmp_path)
    assert (tmp_path / "kafka/data/segment").exists()
