"""One supervisor a folder."""

import os
from pathlib import Path

import pytest

from deploy.errors import CommandFailed
from deploy.local import lock


def test_a_folder_has_one_supervisor(tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        assert lock.supervisor(tmp_path) == os.getpid()
        with pytest.raises(CommandFailed, match=f"runs in .* already .pid {os.getpid()}"), lock.hold(tmp_path):
            pass
    assert lock.supervisor(tmp_path) is None


def test_a_lock_file_that_nobody_holds_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / lock.SUPERVISOR).write_text("123456")
    assert lock.supervisor(tmp_path) is None
    with lock.hold(tmp_path):
        assert lock.supervisor(tmp_path) == os.getpid()


def test_a_folder_that_never_had_a_stack_has_no_supervisor(tmp_path: Path) -> None:
    assert lock.supervisor(tmp_path / "none") is None
