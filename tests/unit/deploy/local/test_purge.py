"""Purging deletes what a stack made and nothing else."""

from datetime import UTC, datetime
from pathlib import Path

from deploy.local import development, purge


def test_a_folder_with_only_a_stack_in_it_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    (folder / "kafka" / "data").mkdir(parents=True)
    (folder / "stack.json").touch()
    purge.purge(folder)
    assert not folder.exists()


def test_all_that_is_made_for_a_user_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    folder.mkdir()
    development.prepare(folder, logins=["tidegate_write"], now=datetime.now(UTC))
    purge.purge(folder)
    assert not folder.exists()


def test_what_the_stack_did_not_make_stays(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "thesis.txt").touch()
    purge.purge(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
