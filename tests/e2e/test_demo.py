"""`make demo DEMO_EXIT=1`, as its user runs it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import lock
from tests.support.stack import tidegate

TIMEOUT_S = 280.0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder for the demonstration's own stack; what it leaves is stopped and deleted."""
    yield tmp_path
    tidegate("down", "--purge", "--dir", str(tmp_path))


def demo(folder: Path) -> str:
    """Run the demonstration; return what it printed."""
    command = [sys.executable, "-m", "deploy.examples.demo", "--exit", "--dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demonstration_finds_every_event_again_twice_in_a_row(folder: Path) -> None:
    for _ in range(2):
        shown = demo(folder)
        assert "Verified: the 130 events of 5 runs are in Postgres" in " ".join(shown.split())
        for what, status, attempts in (
            ("invoice", "completed", 1),
            ("import", "completed", 2),
            ("export", "cancelled", 1),
        ):
            assert re.search(rf"{what} .* {status} +{attempts} ", shown), f"the job {what!r} in:\n{shown}"
        assert re.search(r"persuasion/1 .*never took up any book but the\s+Baronetage", shown), shown
        assert "kcat -C -b 127.0.0.1:" in shown
        assert lock.supervisor(folder) is None, "the stack that it started is stopped"
